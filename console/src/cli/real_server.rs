//! `real-server`: what a real server needs for direct routing or tunnelling, on this host.

use super::{CommandError, Outcome, print};
use crate::args::{
    RealServerAction, RealServerArguments, RealServerMethod, SetupForm, TunnelHeader,
};
use control::real_server::{Form, Header, HostTrouble, Method, Setup, down, look, problems, up};

pub(super) fn real_server(arguments: &RealServerArguments) -> Outcome {
    let setup = Setup { vips: arguments.vip.clone(), method: method(arguments) };
    let form = arguments.print.or(arguments.print_shell.then_some(SetupForm::Shell));
    if let Some(form) = form {
        let text = setup.written(written(form)).map_err(CommandError::Failed)?;
        return print::text(&text);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::Failed(error.to_string()))?;
    runtime.block_on(async {
        match arguments.action {
            RealServerAction::Up => tell(&up(&setup).await.map_err(failed)?),
            RealServerAction::Down => tell(&down(&setup).await.map_err(failed)?),
            RealServerAction::Check => check(&setup).await,
        }
    })
}

fn method(arguments: &RealServerArguments) -> Method {
    match arguments.method {
        RealServerMethod::Dr => Method::DirectRouting,
        RealServerMethod::Tun => Method::Tunnel {
            header: match arguments.tunnel {
                TunnelHeader::Ipip => Header::Ipip,
                TunnelHeader::Gre => Header::Gre,
            },
            over_v6: arguments.over_ipv6,
        },
    }
}

const fn written(form: SetupForm) -> Form {
    match form {
        SetupForm::Shell => Form::Shell,
        SetupForm::Iproute2 => Form::Iproute2,
        SetupForm::Ifupdown => Form::Ifupdown,
        SetupForm::Networkmanager => Form::NetworkManager,
    }
}

fn tell(done: &[String]) -> Outcome {
    if done.is_empty() {
        return print::text("nothing to do\n");
    }
    print::text(&done.iter().map(|line| format!("{line}\n")).collect::<String>())
}

async fn check(setup: &Setup) -> Outcome {
    let needs = setup.needs().map_err(CommandError::Failed)?;
    let found = problems(&needs, &look().await.map_err(failed)?);
    if found.is_empty() {
        return print::text("this host is ready to be a real server\n");
    }
    Err(CommandError::Problems(found.iter().map(ToString::to_string).collect()))
}

fn failed(trouble: HostTrouble) -> CommandError {
    CommandError::Failed(with_causes(&trouble))
}

/// An error with its causes, in one line. Causes that stand in the message already are left out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |error| error.source());
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
    }
    text
}
