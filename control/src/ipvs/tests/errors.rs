//! One row for each refusal of the kernel.

use super::*;
use crate::model::GueChecksum;

fn prepared() -> Director {
    let mut director = Director::default();
    director.ask(&add_service(WEB));
    director.ask(&add_server(WEB, REAL));
    director
}

fn server(address: &str, spec: ServerSpec) -> [Request; 2] {
    let (service, server) = (tcp(WEB), address.parse().unwrap());
    [Request::AddServer { service, server, spec }, Request::EditServer { service, server, spec }]
}

fn service(address: &str, spec: ServiceSpec) -> [Request; 2] {
    let service = tcp(address);
    [Request::AddService { service, spec: spec.clone() }, Request::EditService { service, spec }]
}

const fn gue(port: u16) -> Method {
    Method::Tunnel(Tunnel::Gue { port, checksum: GueChecksum::None })
}

#[test]
fn services_are_refused_as_the_kernel_refuses_them() {
    let scheduler = |name: &str| ServiceSpec { scheduler: name.into(), ..service_spec() };
    let engine = |name: &str| ServiceSpec { engine: Some(name.into()), ..service_spec() };
    let mark = VirtualAddress::Mark { family: Family::V4, mark: 0 };
    let [add, edit] = service(WEB, scheduler("nosuch"));
    let [add_new, edit_missing] = service("192.0.2.7:80", scheduler("nosuch"));
    let [add_engine, edit_engine] = service("192.0.2.7:80", engine("nosuch"));
    let one_packet = ServiceSpec { one_packet: true, ..service_spec() };
    let [add_one_packet, _] = service("192.0.2.7:80", one_packet);
    for (request, errno) in [
        (add, Errno::Eexist),
        (edit, Errno::Enoent),
        (add_new, Errno::Enoent),
        (edit_missing, Errno::Esrch),
        (add_engine, Errno::Enoent),
        (edit_engine, Errno::Esrch),
        (add_service("0.0.0.0:80"), Errno::Einval),
        (add_service("224.0.0.1:80"), Errno::Einval),
        (add_service("192.0.2.7:0"), Errno::Einval),
        (add_one_packet, Errno::Einval),
        (Request::AddService { service: mark, spec: service_spec() }, Errno::Einval),
        (Request::DeleteService { service: tcp("192.0.2.7:80") }, Errno::Esrch),
        (Request::ZeroService { service: tcp("192.0.2.7:80") }, Errno::Esrch),
        (Request::Service { service: tcp("192.0.2.7:80") }, Errno::Esrch),
    ] {
        let mut director = prepared();
        let before = director.document.clone();
        let executed = director.run(&request);
        assert_eq!(executed.reply, Reply::Failed(errno), "{request:?}");
        assert!(!executed.changed && director.document == before, "{request:?}");
    }
}

#[test]
fn real_servers_are_refused_as_the_kernel_refuses_them() {
    let base = server_spec();
    let heavy = ServerSpec { weight: 1 << 31, ..base };
    let lower = ServerSpec { lower: 5, ..base };
    let upper = ServerSpec { upper: 1 << 31, ..base };
    let [add_heavy, edit_heavy] = server(REAL, heavy);
    let [add_lower, edit_lower] = server(REAL, lower);
    let [add_upper, edit_upper] = server(REAL, upper);
    let [add_gue, edit_gue] = server(REAL, ServerSpec { method: gue(0), ..base });
    let [add_twice, _] = server(REAL, base);
    let [add_broadcast, edit_missing] = server("10.0.0.255:80", base);
    let [add_mixed, edit_mixed] = server("[2001:db8::1]:80", base);
    let lonely = "192.0.2.7:80";
    for (request, errno) in [
        (add_heavy, Errno::Erange),
        (edit_heavy, Errno::Erange),
        (add_lower, Errno::Erange),
        (edit_lower, Errno::Erange),
        (add_upper, Errno::Einval),
        (edit_upper, Errno::Einval),
        (add_gue, Errno::Einval),
        (edit_gue, Errno::Einval),
        (add_twice, Errno::Eexist),
        (add_broadcast, Errno::Einval),
        (edit_missing, Errno::Enoent),
        (add_mixed, Errno::Einval),
        (edit_mixed, Errno::Einval),
        (delete_server(WEB, "10.0.0.9:80"), Errno::Enoent),
        (delete_server(lonely, REAL), Errno::Esrch),
        (add_server(lonely, REAL), Errno::Esrch),
    ] {
        let mut director = prepared();
        let before = director.document.clone();
        let executed = director.run(&request);
        assert_eq!(executed.reply, Reply::Failed(errno), "{request:?}");
        assert!(!executed.changed && director.document == before, "{request:?}");
    }
}

#[test]
fn sync_daemons_are_refused_as_the_kernel_refuses_them() {
    let good = DaemonSpec {
        role: DaemonRole::Master,
        interface: "eth0".into(),
        sync_id: 0,
        max_length: 0,
        group: None,
        port: 0,
        ttl: 0,
    };
    let group = Some("10.0.0.1".parse().unwrap());
    let mut director = prepared();
    let mut start = |spec: &DaemonSpec| director.ask(&Request::StartDaemon(spec.clone()));
    let unknown = DaemonSpec { interface: "eth9".into(), ..good.clone() };
    assert_eq!(start(&unknown), Reply::Failed(Errno::Enodev));
    assert_eq!(start(&DaemonSpec { group, ..good.clone() }), Reply::Failed(Errno::Einval));
    assert_eq!(start(&good), Reply::Done);
    assert_eq!(start(&unknown), Reply::Failed(Errno::Enodev));
    assert_eq!(start(&good), Reply::Failed(Errno::Eexist));
}

#[test]
fn real_servers_of_another_family_and_sync_daemons_exclude_each_other() {
    let daemon = Request::StartDaemon(DaemonSpec {
        role: DaemonRole::Backup,
        interface: "eth0".into(),
        sync_id: 0,
        max_length: 0,
        group: None,
        port: 0,
        ttl: 0,
    });
    let spec = ServerSpec { method: Method::Tunnel(Tunnel::Ipip), ..server_spec() };
    let [add, edit] = server("[2001:db8::1]:80", spec);
    let mut director = prepared();
    assert_eq!(director.ask(&add), Reply::Done);
    assert_eq!(director.ask(&daemon), Reply::Failed(Errno::Einval));
    let mut director = prepared();
    assert_eq!(director.ask(&daemon), Reply::Done);
    assert_eq!(director.ask(&add), Reply::Failed(Errno::Einval));
    assert_eq!(director.ask(&edit), Reply::Failed(Errno::Einval));
}
