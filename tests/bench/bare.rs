//! Programs that forward and do nothing else, to know what the sockets allow at most.

use anyhow::{Context, Result, ensure};
use dataplane::frame::{BATCH, Batch, Frame};
use dataplane::io::steer::{Steering, SteeringRules};
use dataplane::io::{Attach, Attachment, Backend, Port, attach};
use dataplane::table::PortId;

/// What has to live as long as the ports.
pub type Held = (Steering, Vec<Attachment>);

/// Two interfaces of the calling thread's network namespace.
pub struct Opened {
    pub held: Held,
    pub outside: Port,
    pub inside: Port,
}

/// Opens an outside and an inside interface by this backend.
pub fn open(rules: &SteeringRules, names: [&str; 2], backend: Backend) -> Result<Opened> {
    let steering = Steering::new()?;
    steering.apply(rules)?;
    let (mut attachments, mut all) = (Vec::new(), Vec::new());
    for (interface, port) in names.into_iter().zip([PortId(1), PortId(2)]) {
        let (backend, steering) = (Some(backend), Some(&steering));
        let request = Attach { interface, port, backend, workers: 1, steering };
        let (attachment, ports) = attach(&request)?;
        ensure!(Some(attachment.backend) == backend, "{}", attachment.reason);
        attachments.push(attachment);
        all.extend(ports);
    }
    let (inside, outside) = all.pop().zip(all.pop()).context("two ports")?;
    Ok(Opened { held: (steering, attachments), outside, inside })
}

/// Passes one batch on, each frame changed. How many there were.
pub fn pass(from: &mut Port, to: &mut Port, change: impl Fn(&mut Frame<'_>)) -> Result<usize> {
    let mut batch = Batch::new();
    from.receive.receive(&mut batch)?;
    let count = batch.len();
    if count == 0 {
        return Ok(0);
    }
    batch.iter_mut().for_each(change);
    let sent = to.transmit.send(&mut batch, u64::MAX >> (BATCH - count))?;
    drop(batch);
    from.receive.release(sent.kept);
    Ok(count)
}
