use super::order::bucket;
use super::*;
use crate::model::{
    Document, Family, Method, Netmask, SchedulerFlags, Service, Tunnel, VirtualAddress,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

mod documents;
mod errors;

/// A director without packets: real servers as configured, counters as the test sets them.
#[derive(Default)]
struct Still {
    services: RefCell<BTreeMap<VirtualAddress, Counters>>,
    servers: RefCell<BTreeMap<SocketAddr, Counters>>,
    removed: RefCell<BTreeMap<SocketAddr, Counters>>,
}

impl Running for Still {
    fn service(&self, service: &VirtualAddress) -> Counters {
        self.services.borrow().get(service).copied().unwrap_or_default()
    }

    fn reals(&self, service: &Service) -> Vec<RunningReal> {
        let running = |real: &crate::model::Real| RunningReal {
            address: real.address,
            method: service.method_of(real),
            weight: real.weight,
            upper: real.upper,
            lower: real.lower,
            active: 0,
            inactive: 0,
            persistent: 0,
            counters: self.servers.borrow().get(&real.address).copied().unwrap_or_default(),
        };
        service.reals.iter().rev().map(running).collect()
    }

    fn removed(&self, _: &VirtualAddress, server: &SocketAddr) -> Option<Counters> {
        self.removed.borrow().get(server).copied()
    }

    fn connections(&self, _: u64, _: u32) -> ConnectionPage {
        ConnectionPage::default()
    }

    fn table_size(&self) -> u32 {
        4096
    }
}

/// A director that is asked one thing after the other.
#[derive(Default)]
struct Director {
    document: Document,
    state: KernelState,
    running: Still,
}

impl Director {
    fn ask(&mut self, request: &Request) -> Reply {
        self.run(request).reply
    }

    fn run(&mut self, request: &Request) -> Executed {
        let address = ("10.0.0.254".parse().unwrap(), 24);
        let host = Host::new([("eth0".into(), 1500), ("lo".into(), 65536)], [address]);
        execute(request, &mut self.document, &mut self.state, &self.running, &host)
    }

    fn list(&mut self) -> Vec<ServiceEntry> {
        let Reply::Services(services) = self.ask(&Request::Services) else { panic!() };
        services
    }

    fn only(&mut self) -> ServiceEntry {
        let mut services = self.list();
        assert_eq!(services.len(), 1);
        services.remove(0)
    }
}

fn tcp(address: &str) -> VirtualAddress {
    let protocol = crate::model::Protocol::Tcp;
    VirtualAddress::Socket { protocol, address: address.parse().unwrap() }
}

fn service_spec() -> ServiceSpec {
    ServiceSpec {
        scheduler: "wlc".into(),
        flags: SchedulerFlags::default(),
        persistence: None,
        engine: None,
        one_packet: false,
    }
}

const fn server_spec() -> ServerSpec {
    ServerSpec { method: Method::Nat, weight: 1, upper: 0, lower: 0 }
}

fn add_service(address: &str) -> Request {
    Request::AddService { service: tcp(address), spec: service_spec() }
}

fn add_server(service: &str, server: &str) -> Request {
    let server = server.parse().unwrap();
    Request::AddServer { service: tcp(service), server, spec: server_spec() }
}

fn delete_server(service: &str, server: &str) -> Request {
    Request::DeleteServer { service: tcp(service), server: server.parse().unwrap() }
}

const WEB: &str = "192.0.2.1:80";
const REAL: &str = "10.0.0.1:80";

fn conns(conns: u64) -> Counters {
    Counters { conns, ..Counters::default() }
}

#[test]
fn the_newest_real_server_is_listed_first_and_edits_do_not_move_it() {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    let order = |director: &mut Director| -> Vec<String> {
        director.only().servers.iter().map(|s| s.server.ip().to_string()).collect()
    };
    for server in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"] {
        assert_eq!(director.ask(&add_server(WEB, server)), Reply::Done);
    }
    assert_eq!(order(&mut director), ["10.0.0.3", "10.0.0.2", "10.0.0.1"]);
    let spec = ServerSpec { weight: 7, ..server_spec() };
    let server = "10.0.0.2:80".parse().unwrap();
    director.ask(&Request::EditServer { service: tcp(WEB), server, spec });
    assert_eq!(order(&mut director), ["10.0.0.3", "10.0.0.2", "10.0.0.1"]);
    director.ask(&delete_server(WEB, "10.0.0.2:80"));
    director.ask(&add_server(WEB, "10.0.0.2:80"));
    assert_eq!(order(&mut director), ["10.0.0.2", "10.0.0.3", "10.0.0.1"]);
}

#[test]
fn services_are_listed_by_bucket_and_marks_last() {
    let mut director = Director::default();
    let mark = VirtualAddress::Mark { family: Family::V4, mark: 1 };
    director.ask(&Request::AddService { service: mark, spec: service_spec() });
    // 6 ^ 192.0.2.1 ^ (port >> 8) ^ port: 6 ^ 1 ^ 80 = 87, 6 ^ 1 ^ 81 = 86, 6 ^ 2 ^ 83 = 87.
    for address in ["192.0.2.1:80", "192.0.2.1:81", "192.0.2.2:83"] {
        director.ask(&add_service(address));
    }
    let listed: Vec<_> = director.list().iter().map(|entry| entry.service).collect();
    assert_eq!(listed, [tcp("192.0.2.1:81"), tcp("192.0.2.2:83"), tcp("192.0.2.1:80"), mark]);
    assert_eq!(bucket(&tcp("[2001:db8::1]:256")), (0, (6 ^ 0xb8 ^ 1 ^ 1) & 0xff));
}

#[test]
fn zeroing_hides_what_was_counted_and_only_of_that_service() {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    director.ask(&add_server(WEB, REAL));
    director.running.services.borrow_mut().insert(tcp(WEB), conns(9));
    director.running.servers.borrow_mut().insert(REAL.parse().unwrap(), conns(9));
    assert_eq!(director.only().counters, conns(9));
    assert_eq!(director.ask(&Request::ZeroService { service: tcp(WEB) }), Reply::Done);
    let entry = director.only();
    assert_eq!((entry.counters, entry.servers[0].counters), (conns(0), conns(0)));
    director.running.services.borrow_mut().insert(tcp(WEB), conns(11));
    assert_eq!(director.only().counters, conns(2));
    director.ask(&Request::ZeroAll);
    assert_eq!(director.only().counters, conns(0));
}

#[test]
fn a_real_server_that_comes_back_in_time_goes_on_counting() {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    director.ask(&add_server(WEB, REAL));
    let real: SocketAddr = REAL.parse().unwrap();
    director.running.servers.borrow_mut().insert(real, conns(5));
    director.ask(&Request::ZeroAll);
    director.running.servers.borrow_mut().insert(real, conns(8));
    director.running.removed.borrow_mut().insert(real, conns(8));
    director.ask(&delete_server(WEB, REAL));
    director.ask(&add_server(WEB, REAL));
    assert_eq!(director.only().servers[0].counters, conns(3));
}

#[test]
fn a_real_server_of_a_service_that_was_made_anew_counts_from_zero() {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    director.ask(&add_server(WEB, REAL));
    let real: SocketAddr = REAL.parse().unwrap();
    director.running.servers.borrow_mut().insert(real, conns(8));
    director.running.removed.borrow_mut().insert(real, conns(8));
    director.ask(&Request::DeleteService { service: tcp(WEB) });
    director.ask(&add_service(WEB));
    director.ask(&add_server(WEB, REAL));
    assert_eq!(director.only().servers[0].counters, conns(0));
}

#[test]
fn rates_follow_the_counters() {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    director.ask(&add_server(WEB, REAL));
    for round in 1..=2 {
        director.running.services.borrow_mut().insert(tcp(WEB), conns(200 * round));
        let services = director.document.services.clone();
        director.state.statistics.estimate(&services, &director.running);
    }
    assert_eq!(director.only().rates.cps, 44);
    director.ask(&Request::ZeroAll);
    assert_eq!(director.only().rates.cps, 0);
}

#[test]
fn a_batch_goes_on_after_a_failure_and_is_one_change() {
    let mut director = Director::default();
    let batch = vec![
        add_service(WEB),
        add_server("192.0.2.9:80", REAL),
        Request::Batch(Vec::new()),
        add_server(WEB, REAL),
        Request::Services,
    ];
    let executed = director.run(&Request::Batch(batch));
    assert!(executed.changed);
    let Reply::Batch(replies) = executed.reply else { panic!("{:?}", executed.reply) };
    assert_eq!(replies[..2], [Reply::Done, Reply::Failed(Errno::Esrch)]);
    assert_eq!(replies[2..4], [Reply::Failed(Errno::Einval), Reply::Done]);
    assert!(matches!(&replies[4], Reply::Services(services) if services[0].servers.len() == 1));
}

#[test]
fn only_what_changes_the_document_asks_for_a_commit() {
    let mut director = Director::default();
    assert!(director.run(&add_service(WEB)).changed);
    let edit = Request::EditService { service: tcp(WEB), spec: service_spec() };
    for same in [Request::Services, Request::ZeroAll, edit, add_service(WEB)] {
        assert!(!director.run(&same).changed, "{same:?}");
    }
    assert!(director.run(&Request::Flush).changed);
    assert!(!director.run(&Request::Flush).changed);
}

#[test]
fn a_batch_edits_when_one_of_its_requests_does() {
    let lists = || vec![Request::Info, Request::Services];
    assert!(!Request::Batch(lists()).edits());
    assert!(Request::Batch([lists(), vec![Request::Flush]].concat()).edits());
}

#[test]
fn timeouts_of_zero_stay() {
    let mut director = Director::default();
    let wanted = TimeoutSpec { tcp: 5, tcp_fin: 0, udp: 7 };
    assert_eq!(director.ask(&Request::SetTimeouts(wanted)), Reply::Done);
    let now = TimeoutSpec { tcp: 5, tcp_fin: 120, udp: 7 };
    assert_eq!(director.ask(&Request::Timeouts), Reply::Timeouts(now));
}

#[test]
fn sync_daemons_get_the_kernels_defaults_and_master_is_listed_first() {
    let mut director = Director::default();
    let spec = |role| DaemonSpec {
        role,
        interface: "lo".into(),
        sync_id: 3,
        max_length: 0,
        group: None,
        port: 0,
        ttl: 0,
    };
    assert_eq!(director.ask(&Request::StartDaemon(spec(DaemonRole::Backup))), Reply::Done);
    assert_eq!(director.ask(&Request::StartDaemon(spec(DaemonRole::Master))), Reply::Done);
    let Reply::Daemons(daemons) = director.ask(&Request::Daemons) else { panic!() };
    let shown: Vec<_> = daemons.iter().map(|d| (d.role, d.max_length, d.port, d.ttl)).collect();
    assert_eq!(shown[0], (DaemonRole::Master, 1472, 8848, 1));
    assert_eq!(shown[1], (DaemonRole::Backup, 65507, 8848, 1));
    assert_eq!(daemons[0].group, Some("224.0.0.81".parse().unwrap()));
    assert_eq!(director.ask(&Request::StopDaemon { role: DaemonRole::Master }), Reply::Done);
    let gone = director.ask(&Request::StopDaemon { role: DaemonRole::Master });
    assert_eq!(gone, Reply::Failed(Errno::Esrch));
}

#[test]
fn an_edit_leaves_alone_what_ipvsadm_cannot_say() {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    let service = director.document.service_at_mut(&tcp(WEB)).unwrap();
    service.name = "shop".into();
    service.method = Method::FullNat;
    let mut local = crate::model::Real::new(REAL.parse().unwrap());
    local.method = Some(Method::Local);
    service.reals.push(local);
    service.reals.push(crate::model::Real::new("10.0.0.2:80".parse().unwrap()));
    let methods = |director: &Director| {
        let service = director.document.service_at(&tcp(WEB)).unwrap();
        assert_eq!(service.name, "shop");
        [service.method_of(&service.reals[0]), service.method_of(&service.reals[1])]
    };
    for (server, method) in [(REAL, Method::DirectRouting), ("10.0.0.2:80", Method::Nat)] {
        let spec = ServerSpec { weight: 5, method, ..server_spec() };
        let server = server.parse().unwrap();
        director.ask(&Request::EditServer { service: tcp(WEB), server, spec });
    }
    assert_eq!(methods(&director), [Method::Local, Method::FullNat]);
    for server in [REAL, "10.0.0.2:80"] {
        let spec = ServerSpec { method: Method::Tunnel(Tunnel::Ipip), ..server_spec() };
        let server = server.parse().unwrap();
        director.ask(&Request::EditServer { service: tcp(WEB), server, spec });
    }
    assert_eq!(methods(&director), [Method::Tunnel(Tunnel::Ipip); 2]);
}

#[test]
fn a_service_gets_a_name_that_is_free() {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    let name = director.document.services[0].name.clone();
    director.document.service_at_mut(&tcp(WEB)).unwrap().address = tcp("192.0.2.2:80");
    director.ask(&add_service(WEB));
    assert_eq!(director.document.services[1].name, format!("{name}-2"));
}

#[test]
fn the_persistence_of_a_service_needs_a_mask_of_its_family() {
    let mut director = Director::default();
    let persistence = PersistenceSpec { seconds: 300, netmask: Netmask::V6(64) };
    let spec = ServiceSpec { persistence: Some(persistence), ..service_spec() };
    let request = |address| Request::AddService { service: tcp(address), spec: spec.clone() };
    assert_eq!(director.ask(&request(WEB)), Reply::Failed(Errno::Einval));
    assert_eq!(director.ask(&request("[2001:db8::1]:80")), Reply::Done);
    assert_eq!(director.only().spec, spec);
}
