//! `show time`: every clock that is compared with this node's.

use super::{Outcome, print};
use crate::args::ShowArguments;
use crate::client::Client;
use control::time::{Drift, PeerView, TimeView};

pub(super) fn time(client: &Client, arguments: &ShowArguments) -> Outcome {
    let view: TimeView = client.get("/v1/time")?;
    if arguments.json {
        return print::json(&view);
    }
    print::text(&this_node(&view))?;
    if let Some(peer) = &view.peer {
        print::text(&format!("{:<13}{}\n", "peer", peer_clock(peer)))?;
    }
    if !view.servers.is_empty() {
        print::text("\n")?;
        servers(&view)?;
    }
    if !view.reals.is_empty() {
        print::text("\n")?;
        reals(&view)?;
    }
    Ok(())
}

fn this_node(view: &TimeView) -> String {
    let offset = match (view.ahead, view.error) {
        (Some(ahead), Some(error)) => {
            format!("{} +/- {}", off(ahead), seconds(error))
        }
        (Some(ahead), None) => off(ahead),
        (None, _) => match view.opinion.as_str() {
            "not asked" => "not compared: [time] lists no servers".to_owned(),
            "contradictory" => "unknown: the time servers disagree without a majority".to_owned(),
            _ => "unknown: no time server answers".to_owned(),
        },
    };
    let kernel = match view.kernel {
        Some(kernel) if kernel.synchronised => {
            format!("synchronised, largest error {:.3} ms", kernel.max_error_us as f64 / 1000.0)
        }
        Some(_) => "not synchronised: no time daemon disciplines it".to_owned(),
        None => "unknown".to_owned(),
    };
    format!(
        "this node    {offset}{}\nkernel       {kernel}\nlimits       warn {}, critical {}\n",
        verdict(view.drift),
        seconds(view.warn),
        seconds(view.critical)
    )
}

fn servers(view: &TimeView) -> Outcome {
    let rows: Vec<Vec<String>> = view
        .servers
        .iter()
        .map(|server| {
            vec![
                server.name.clone(),
                server.state.clone(),
                server.stratum.map(|stratum| stratum.to_string()).unwrap_or_default(),
                server.offset.map(off).unwrap_or_default(),
                server.delay.map(seconds).unwrap_or_default(),
                server.jitter.map(seconds).unwrap_or_default(),
                format!("{:08b}", server.reach),
                server.reference.clone().unwrap_or_default(),
                server.trouble.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let headings = [
        "Time server",
        "State",
        ">Stratum",
        ">Offset",
        ">Delay",
        ">Jitter",
        "Reach",
        "Reference",
        "Trouble",
    ];
    print::table(&headings, &rows)
}

fn reals(view: &TimeView) -> Outcome {
    let rows: Vec<Vec<String>> = view
        .reals
        .iter()
        .map(|real| {
            vec![
                real.service.clone(),
                real.real.to_string(),
                format!("{}{}", off(real.ahead), verdict(real.drift)),
                seconds(real.error),
            ]
        })
        .collect();
    print::table(&["Service", "Real server", ">Clock", ">Error"], &rows)
}

/// Formats the peer's clock as "1.204 ms ahead +/- 0.110 ms", with a warning if it has drifted.
pub(in crate::cli) fn peer_clock(peer: &PeerView) -> String {
    format!("{} +/- {}{}", off(peer.ahead), seconds(peer.error), verdict(peer.drift))
}

const fn verdict(drift: Drift) -> &'static str {
    match drift {
        Drift::Fine => "",
        Drift::Warn => "  WARNING",
        Drift::Critical => "  CRITICAL",
    }
}

fn off(ahead: f64) -> String {
    let direction = if ahead < 0.0 { "behind" } else { "ahead" };
    format!("{} {direction}", seconds(ahead.abs()))
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.3} ms", seconds * 1000.0) } else { format!("{seconds:.3} s") }
}
