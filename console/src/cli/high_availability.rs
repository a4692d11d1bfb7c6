//! `show vrrp`, `failover`: the two directors.

use super::{Outcome, print};
use crate::args::ShowArguments;
use crate::client::Client;
use crate::web::api::{Applied, FailoverWish};
use control::view::VrrpView;

pub(super) fn vrrp(client: &Client, arguments: &ShowArguments) -> Outcome {
    let instances: Vec<VrrpView> = client.get("/v1/vrrp")?;
    if arguments.json {
        return print::json(&instances);
    }
    if instances.is_empty() {
        return print::text("no VRRP instance is configured\n");
    }
    let row = |instance: &VrrpView| {
        let addresses: Vec<String> = instance.addresses.iter().map(ToString::to_string).collect();
        let heard = instance.master.as_ref();
        vec![
            instance.name.clone(),
            instance.state.clone(),
            instance.seconds.to_string(),
            instance.priority.to_string(),
            format!("{} id {} v{}", instance.interface, instance.id, instance.version),
            addresses.join(" "),
            heard.map(|m| format!("{} ({})", m.address, m.priority)).unwrap_or_default(),
            why(instance),
        ]
    };
    let rows: Vec<_> = instances.iter().map(row).collect();
    let headings =
        ["Instance", "State", ">Seconds", ">Priority", "Where", "Addresses", "Master", "Why"];
    print::table(&headings, &rows)
}

fn why(instance: &VrrpView) -> String {
    let mut why = if instance.faults.is_empty() {
        instance.reason.clone().unwrap_or_default()
    } else {
        instance.faults.join(", ")
    };
    if !instance.differences.is_empty() {
        why.push_str(&format!("; the peer has {}", instance.differences.join(", ")));
    }
    why
}

pub(super) fn failover(client: &Client, instance: Option<String>) -> Outcome {
    let what = instance.clone().unwrap_or_else(|| "every instance".to_owned());
    let _: Applied = client.post("/v1/failover", &FailoverWish { instance })?;
    print::text(&format!("{what}: mastership is given to the other director\n"))
}
