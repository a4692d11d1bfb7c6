use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::health::Health;
use crate::health::probe::Target;
use crate::model::{self, Check, DialogueProbe, DialogueStep, Probe, Protocol, VirtualAddress};

fn key(real: SocketAddr) -> RealKey {
    let address = "192.0.2.10:80".parse().unwrap();
    (VirtualAddress::Socket { protocol: Protocol::Tcp, address }, real)
}

fn check(change: impl FnOnce(&mut Check)) -> Arc<Check> {
    let mut check = Check::new(Probe::Tcp(DialogueProbe::default()));
    check.interval = Duration::from_millis(20);
    check.timeout = Duration::from_secs(30);
    (check.rise, check.fall) = (1, 1);
    change(&mut check);
    Arc::new(check)
}

fn spec(check: &Arc<Check>, real: SocketAddr) -> CheckSpec {
    let target = Arc::new(Target::new(real));
    CheckSpec { check: Arc::clone(check), target, known: Health::Untested }
}

/// The next news that is a verdict.
async fn verdict(news: &mut mpsc::Receiver<News>) -> (RealKey, Health) {
    loop {
        let News { real, report } = news.recv().await.unwrap();
        if let Report::Changed(transition) = report {
            return (real, transition.to);
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_and_starts_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let real = listener.local_addr().unwrap();
    let (checker, mut news) = Checker::start("lb1".into());
    checker.replace([(key(real), spec(&check(|_| {}), real))].into()).await;
    assert_eq!(verdict(&mut news).await, (key(real), Health::Up));
    drop(listener);
    assert_eq!(verdict(&mut news).await, (key(real), Health::Down));
    let _listener = TcpListener::bind(real).await.unwrap();
    assert_eq!(verdict(&mut news).await, (key(real), Health::Up));
    let view = checker.look().await;
    assert_eq!(view.len(), 1);
    assert_eq!(view[0].reason.as_deref().map(|r| r.starts_with("connected after")), Some(true));
    assert!(view[0].probes >= 3 && view[0].failures >= 1);
}

#[tokio::test]
async fn a_check_that_is_gone_says_nothing_any_more() {
    let (checker, mut news) = Checker::start("lb1".into());
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let check = check(|_| {});
    checker.replace([(key(closed), spec(&check, closed))].into()).await;
    assert_eq!(verdict(&mut news).await.0, key(closed));
    checker.replace([(key(open), spec(&check, open))].into()).await;
    assert_eq!(verdict(&mut news).await, (key(open), Health::Up));
    assert!(checker.look().await.iter().all(|view| view.real == open));
    drop(checker);
    assert_eq!(news.recv().await, None, "the loop ends with its last handle");
}

#[tokio::test]
async fn while_nobody_listens_only_the_last_word_is_kept() {
    // A server that changes its answer each time, and settles after a while.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let real = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let good = n >= 9 || n.is_multiple_of(2);
            let _ = stream.write_all(if good { b"good" } else { b"bad!" }).await;
        }
    });
    let steps = vec![DialogueStep::Expect("good".into())];
    let check = check(|check| {
        check.probe = Probe::Tcp(DialogueProbe { tls: None, steps });
        check.interval = Duration::from_millis(10);
    });
    // The loop itself, with a channel for two.
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let (outbox, mut news) = mpsc::channel(2);
    tokio::spawn(Loop::new("lb1".into()).run(inbox, outbox));
    let checker = Checker(commands);
    checker.replace([(key(real), spec(&check, real))].into()).await;
    while checker.look().await[0].probes < 12 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(served.load(Ordering::Relaxed) >= 12, "probing goes on");
    // Up and down ten times; the first two fitted, and the last is there.
    let mut heard = Vec::new();
    for _ in 0..20 {
        while let Ok(news) = news.try_recv() {
            heard.extend(if let Report::Changed(change) = news.report {
                Some(change.to)
            } else {
                None
            });
        }
        checker.look().await;
    }
    assert_eq!(heard[..2], [Health::Up, Health::Down]);
    assert_eq!(heard.last(), Some(&Health::Up));
    assert!(heard.len() <= 4, "{heard:?}");
}

#[tokio::test]
async fn an_unusable_check_is_reported_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let real = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let tls = model::Tls { verify: true, ca: Some(ca.clone()), ..model::Tls::default() };
    let check = check(|check| {
        check.probe = Probe::Tcp(DialogueProbe { tls: Some(tls), steps: Vec::new() });
    });
    let (checker, mut news) = Checker::start("lb1".into());
    checker.replace([(key(real), spec(&check, real))].into()).await;
    let Report::Unable(Some(why)) = news.recv().await.unwrap().report else { panic!() };
    assert!(why.contains("ca.pem: No such file"), "{why}");
    drop(listener); // now a connection is refused, which needs no certificate
    let key_pair = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
    std::fs::write(&ca, params.self_signed(&key_pair).unwrap().pem()).unwrap();
    assert_eq!(verdict(&mut news).await, (key(real), Health::Down));
}

#[tokio::test]
async fn a_thousand_servers_are_all_checked_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let check = check(|check| check.interval = Duration::from_secs(2));
    let reals = (0..1000u16).map(|n| {
        let [high, low] = (n + 1).to_be_bytes();
        SocketAddr::from(([127, 7, high, low], port))
    });
    let (checker, mut news) = Checker::start("lb1".into());
    checker.replace(reals.map(|real| (key(real), spec(&check, real))).collect()).await;
    let mut up = std::collections::BTreeSet::new();
    while up.len() < 1000 {
        let (real, health) = verdict(&mut news).await;
        assert_eq!(health, Health::Up);
        up.insert(real);
    }
}
