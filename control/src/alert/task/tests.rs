use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::model::AlertEvent;

fn webhook(name: &str, url: String, digest: Duration) -> Alert {
    Alert {
        name: name.into(),
        target: AlertTarget::Webhook { url, secret: None },
        events: Vec::new(),
        services: Vec::new(),
        repeat: Duration::ZERO,
        digest,
        during_maintenance: false,
    }
}

fn happening(n: u8) -> Happening {
    Happening {
        event: AlertEvent::RealDown,
        good: false,
        service: Some("web".into()),
        real: Some(std::net::SocketAddr::from(([10, 0, 0, n], 80))),
        text: format!("10.0.0.{n}:80 is down"),
        time: 0,
        maintenance: false,
    }
}

/// Says what each request contained; answers with these statuses, the last one for ever.
async fn listener(statuses: &'static [u16]) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (heard, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !request.ends_with(b"}") {
                match stream.read(&mut chunk).await {
                    Ok(n) if n > 0 => request.extend_from_slice(&chunk[..n]),
                    Ok(_) | Err(_) => break,
                }
            }
            let status = statuses.get(n).or(statuses.last()).unwrap();
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = heard.send(String::from_utf8_lossy(&request).into_owned());
        }
    });
    (url, hears)
}

#[tokio::test]
async fn a_burst_arrives_as_one_message() {
    let (url, mut hears) = listener(&[200]).await;
    let (alerts, _) = Alerts::start();
    let digest = Duration::from_millis(200);
    alerts.configure("lb1".into(), vec![webhook("hook", url, digest)]).await;
    for n in 1..=3 {
        alerts.happened(happening(n));
    }
    let request = hears.recv().await.unwrap();
    for n in 1..=3 {
        assert!(request.contains(&format!("10.0.0.{n}:80 is down")), "{request}");
    }
}

#[tokio::test]
async fn a_failed_delivery_is_complained_about_and_made_again() {
    let (url, mut hears) = listener(&[503, 200]).await;
    let (alerts, mut complaints) = Alerts::start();
    alerts.configure("lb1".into(), vec![webhook("hook", url, Duration::ZERO)]).await;
    alerts.happened(happening(1));
    hears.recv().await.unwrap();
    assert_eq!(complaints.recv().await.unwrap(), "alert to hook failed, will retry: HTTP 503");
    assert!(hears.recv().await.unwrap().contains("10.0.0.1:80 is down"));
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_other() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}/", hanging.local_addr().unwrap());
    let (url, mut hears) = listener(&[200]).await;
    let (alerts, _) = Alerts::start();
    let receivers = vec![webhook("a", nowhere, Duration::ZERO), webhook("b", url, Duration::ZERO)];
    alerts.configure("lb1".into(), receivers).await;
    for n in 1..=3 {
        alerts.happened(happening(n));
        hears.recv().await.unwrap();
    }
    assert_eq!(alerts.lost(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn who_reports_never_waits_and_what_finds_no_room_is_counted() {
    let (alerts, _) = Alerts::start();
    // The task cannot run until this test awaits something.
    for _ in 0..WAITING + 5 {
        alerts.happened(happening(1));
    }
    assert_eq!(alerts.lost(), 5);
}
