use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::model::Protocol;
use crate::time::drift::Drift;
use crate::time::sntp::{Leap, ReferenceId};
use crate::time::supervision::Clock;

/// A time server that is this many milliseconds ahead; silent at `i64::MIN`.
async fn server(ahead: Arc<AtomicI64>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut request = [0; 128];
        while let Ok((n, from)) = socket.recv_from(&mut request).await {
            let ahead = ahead.load(Ordering::Relaxed);
            if ahead == i64::MIN {
                continue;
            }
            let offset = Duration::from_millis(ahead.unsigned_abs());
            let clock = if ahead < 0 { wall() - offset } else { wall() + offset };
            let moment = Timestamp::from(clock);
            let packet = Packet {
                leap: Leap::None,
                version: 4,
                mode: 4,
                stratum: 1,
                poll: 6,
                precision: -20,
                root_delay: 0,
                root_dispersion: 0,
                reference_id: ReferenceId(*b"TEST"),
                reference: moment,
                originate: Packet::parse(&request[..n]).unwrap().transmit,
                receive: moment,
                transmit: moment,
            };
            let _ = socket.send_to(&packet.to_bytes(), from).await;
        }
    });
    address.to_string()
}

fn wanted(servers: Vec<String>) -> TimeKeeping {
    TimeKeeping { servers, interval: Duration::from_secs(1), ..TimeKeeping::default() }
}

/// The next notice about this node's clock that is not the kernel's.
async fn said(notices: &mut mpsc::Receiver<Notice>) -> String {
    loop {
        let notice = notices.recv().await.unwrap();
        if !notice.text.contains("kernel") {
            return notice.text;
        }
    }
}

#[tokio::test]
async fn a_drifting_server_is_noticed_and_its_repair_too() {
    let ahead = Arc::new(AtomicI64::new(3_000));
    let (keeper, mut notices) = TimeKeeper::start();
    keeper.configure(wanted(vec![server(Arc::clone(&ahead)).await]), BTreeMap::new()).await;
    let text = said(&mut notices).await;
    assert!(text.starts_with("this node's clock is 3.0") && text.contains("behind"), "{text}");
    let view = keeper.look().await.unwrap();
    assert_eq!((view.drift, view.opinion.as_str()), (Drift::Warn, "known"));
    assert_eq!(view.servers[0].reference.as_deref(), Some("TEST"));
    ahead.store(0, Ordering::Relaxed);
    let text = said(&mut notices).await;
    assert!(text.starts_with("this node's clock is within limits again"), "{text}");
}

#[tokio::test]
async fn a_lying_and_a_silent_server_change_nothing() {
    let honest = || Arc::new(AtomicI64::new(0));
    let servers = vec![
        server(honest()).await,
        server(honest()).await,
        server(Arc::new(AtomicI64::new(-90_000))).await,
        server(Arc::new(AtomicI64::new(i64::MIN))).await,
    ];
    let liar = servers[2].clone();
    let (keeper, mut notices) = TimeKeeper::start();
    keeper.configure(wanted(servers), BTreeMap::new()).await;
    let text = said(&mut notices).await;
    assert!(text.starts_with(&format!("time server {liar} contradicts the others by -")), "{text}");
    let view = keeper.look().await.unwrap();
    assert_eq!((view.drift, view.opinion.as_str()), (Drift::Fine, "known"));
}

#[tokio::test]
async fn readings_of_real_servers_are_taken_only_of_those_that_exist() {
    let vip = "192.0.2.10:80".parse().unwrap();
    let service = VirtualAddress::Socket { protocol: Protocol::Tcp, address: vip };
    let real = |n: u8| (service, SocketAddr::from(([10, 0, 0, n], 80)));
    let (keeper, mut notices) = TimeKeeper::start();
    keeper.configure(wanted(Vec::new()), [(real(1), "web".to_owned())].into()).await;
    for n in [2, 2, 2, 1, 1] {
        keeper.reading(real(n), ClockReading { ahead: 3.0, error: 0.5 });
    }
    let notice = loop {
        let notice = notices.recv().await.unwrap();
        if notice.clock != Clock::Node {
            break notice;
        }
    };
    assert_eq!(notice.clock, Clock::Real(real(1)));
    let view = keeper.look().await.unwrap();
    assert_eq!((view.reals.len(), view.reals[0].service.as_str()), (1, "web"));
}

#[tokio::test]
async fn addresses_need_no_port_and_no_brackets() {
    let of = |text: &'static str| async move { resolve(text).await.unwrap().to_string() };
    assert_eq!(of("192.0.2.1").await, "192.0.2.1:123");
    assert_eq!(of("192.0.2.1:1234").await, "192.0.2.1:1234");
    assert_eq!(of("2001:db8::1").await, "[2001:db8::1]:123");
    assert_eq!(of("[2001:db8::1]").await, "[2001:db8::1]:123");
    assert_eq!(of("[2001:db8::1]:1234").await, "[2001:db8::1]:1234");
    assert!(resolve("localhost").await.unwrap().ip().is_loopback());
}
