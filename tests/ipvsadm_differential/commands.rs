//! Random commands.

/// One call of `ipvsadm`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub words: Vec<String>,
    /// Standard input.
    pub input: String,
}

impl Command {
    fn new(line: &str) -> Self {
        let words = line.split_ascii_whitespace().map(str::to_owned).collect();
        Self { words, input: String::new() }
    }

    /// As one would type it.
    pub fn line(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| format!("'{word}'")).collect();
        let call = format!("ipvsadm {}", words.join(" "));
        if self.input.is_empty() {
            return call;
        }
        let lines: Vec<String> = self.input.lines().map(|line| format!("'{line}'")).collect();
        format!("printf '%s\\n' {} | {call}", lines.join(" "))
    }
}

/// Every kind of list.
pub fn everything() -> Vec<Command> {
    let lists = [
        "-L -n",
        "-L -n --stats",
        "-L -n --rate",
        "-L -n --thresholds",
        "-L -n --persistent-conn",
        "-L -n --tun-info",
        "-L -n --nosort",
        "-L --timeout",
        "-L --daemon",
        "-L -n -c",
        "-S -n",
    ];
    lists.into_iter().map(Command::new).collect()
}

/// Back to the beginning, whatever is there.
pub fn clear() -> Vec<Command> {
    let clear = ["--stop-daemon master", "--stop-daemon backup", "--set 900 120 300", "-C"];
    clear.into_iter().map(Command::new).collect()
}

/// Draws commands. The same seed draws the same.
pub struct Generator {
    state: u64,
}

const SERVICES: &[&str] = &[
    "-t 192.0.2.1:80",
    "-t 192.0.2.1:81",
    "-u 192.0.2.1:80",
    "-t 192.0.2.2:0",
    "-t 192.0.2.9:21",
    "-t 10.1.2.3:443",
    "-t 203.0.113.7:443",
    "--sctp-service 198.51.100.7:9899",
    "-t [2001:db8::1]:80",
    "-u [2001:db8::1]:53",
    "-t [2001:db8:ffff::1]:80",
    "-f 1",
    "-f 2",
    "-f 1 -6",
    "-f 4294967295",
];

const SERVERS: &[&str] = &[
    "10.0.0.1",
    "10.0.0.1:80",
    "10.0.0.1:8080",
    "10.0.0.2:80",
    "192.168.0.3:80",
    "172.16.0.3",
    "127.0.0.1:80",
    "[2001:db8:1::1]:80",
    "2001:db8:1::2",
    "::1",
];

/// Real servers that the kernel refuses: multicast, broadcast, nobody's, another link's.
const IMPOSSIBLE: &[&str] = &[
    "224.0.0.1:80",
    "255.255.255.255:80",
    "10.77.0.255:80",
    "0.0.0.0:80",
    "[ff02::1]:80",
    "[fe80::9]:80",
    "[::ffff:10.0.0.1]:80",
    "::",
];

const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "none",
    "nosuch",
];

const WEIGHTS: &[&str] = &["0", "1", "2", "100", "2147483647"];

impl Generator {
    pub const fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    pub fn command(&mut self) -> Command {
        if self.chance(4) {
            return self.restore();
        }
        Command::new(&self.line())
    }

    fn restore(&mut self) -> Command {
        let lines = (0..=self.below(8)).map(|_| self.line().replace(" --nosort", ""));
        let lines = lines.collect::<Vec<_>>();
        Command { words: vec!["-R".into()], input: lines.join("\n") + "\n" }
    }

    fn line(&mut self) -> String {
        let service = self.one(SERVICES);
        match self.below(100) {
            0..18 => format!("-A {service}{}", self.service_options()),
            18..24 => format!("-E {service}{}", self.service_options()),
            24..28 => format!("-D {service}"),
            28..56 => format!("-a {service} -r {}{}", self.server(), self.server_options()),
            56..66 => format!("-e {service} -r {}{}", self.server(), self.server_options()),
            66..74 => format!("-d {service} -r {}", self.server()),
            74..76 => format!("-Z {service}"),
            76 => "-Z".into(),
            77 if self.chance(30) => "-C".into(),
            77..80 => {
                let [tcp, fin, udp] = [(); 3].map(|()| self.one(&["0", "1", "77", "2678400"]));
                format!("--set {tcp} {fin} {udp}")
            }
            80..84 => self.daemon(),
            84..92 => format!("-L -n {service}{}", self.list_options()),
            92..99 => format!("-L -n{}", self.list_options()),
            _ => self.mistake(service),
        }
    }

    fn server(&mut self) -> &'static str {
        if self.chance(7) { self.one(IMPOSSIBLE) } else { self.one(SERVERS) }
    }

    fn service_options(&mut self) -> String {
        let mut options = String::new();
        if self.chance(70) {
            let scheduler = self.one(SCHEDULERS);
            options.push_str(&format!(" -s {scheduler}"));
            if matches!(scheduler, "sh" | "mh") && self.chance(60) {
                options.push_str(&format!(" -b {scheduler}-{}", self.one(&["port", "fallback"])));
            }
        }
        for (percent, choices) in [
            (40, &[" -p", " -p 1", " -p 2678400"][..]),
            (25, &[" -M 255.255.255.0", " -M 64", " -M 0.0.0.0"]),
            (10, &[" -o"]),
            (10, &[" --pe sip", " --pe nosuch"]),
            (10, &[" -b flag-3", " -b flag-1,flag-2"]),
        ] {
            if self.chance(percent) {
                options.push_str(self.one(choices));
            }
        }
        options
    }

    fn server_options(&mut self) -> String {
        let method = self.one(&[
            "",
            " -g",
            " -m",
            " -m",
            " -m",
            " -i",
            " -i",
            " -i --tun-type gue --tun-port 6080",
            " -i --tun-type gue --tun-port 6080 --tun-remcsum",
            " -i --tun-type gre --tun-csum",
            " -i --tun-type gre",
        ]);
        let mut options = method.to_owned();
        if self.chance(50) {
            options.push_str(&format!(" -w {}", self.one(WEIGHTS)));
        }
        if self.chance(25) {
            options.push_str(self.one(&[" -x 10", " -x 10 -y 5", " -x 5 -y 10", " -y 5"]));
        }
        options
    }

    fn daemon(&mut self) -> String {
        let role = self.one(&["master", "backup"]);
        if self.chance(35) {
            return format!("--stop-daemon {role}");
        }
        let interface = self.one(&["eth0", "eth0", "eth0", "nosuch0"]);
        let mut line = format!("--start-daemon {role} --mcast-interface {interface}");
        for (percent, choices) in [
            (50, &[" --syncid 7", " --syncid 255"][..]),
            (30, &[" --sync-maxlen 1", " --sync-maxlen 1000", " --sync-maxlen 65507"]),
            (30, &[" --mcast-group 239.1.2.3"]),
            (30, &[" --mcast-port 9000"]),
            (30, &[" --mcast-ttl 4"]),
        ] {
            if self.chance(percent) {
                line.push_str(self.one(choices));
            }
        }
        line
    }

    fn list_options(&mut self) -> String {
        let mut options = String::new();
        for option in [
            "--stats",
            "--rate",
            "--thresholds",
            "--persistent-conn",
            "--tun-info",
            "--nosort",
            "--exact",
        ] {
            if self.chance(18) {
                options.push_str(&format!(" {option}"));
            }
        }
        options
    }

    /// Something that never reaches the kernel.
    fn mistake(&mut self, service: &str) -> String {
        match self.below(5) {
            0 => format!("-A {service} {service}"),
            1 => format!("-a {service} -r 10.0.0.1 -w -1"),
            2 => format!("-D {service} -w 1"),
            3 => "-L --bogus".into(),
            _ => format!("{service} -A"),
        }
    }
}
