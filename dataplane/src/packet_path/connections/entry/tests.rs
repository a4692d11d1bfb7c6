use super::*;
use proptest::prelude::*;

#[test]
fn an_entry_is_one_cache_line() {
    assert_eq!((size_of::<Entry>(), align_of::<Entry>()), (64, 64));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        client: u128, vip: u128, ports: [u16; 4], real: u32, state: u8, local: u8,
        peer: u16, flags in 0u16..1024, control in 1u32.., seconds in 0u32..2_678_401, now: u32,
    ) {
        let flags = Flags(flags).without(Flags::TEMPLATE);
        let new = NewConnection {
            protocol: 6, client: Address(client), client_port: ports[0],
            virtual_address: Address(vip), virtual_port: ports[1], real: RealId(real),
            real_address: Address(0), real_port: ports[2], via: Via::FullNat, local,
            local_address: Address(0), local_port: ports[3], state, flags,
            control: Some(Slot(control)), peer, timeout: Ticks::from_secs(seconds),
        };
        let entry = Entry::default();
        entry.write(&new, Tick(now));
        prop_assert_eq!(entry.client(), new.client);
        prop_assert_eq!(entry.virtual_address(), new.virtual_address);
        prop_assert_eq!(entry.ports(), ports);
        prop_assert_eq!(entry.real(), new.real);
        prop_assert_eq!(entry.control(), new.control);
        prop_assert_eq!(entry.timeout(), new.timeout);
        prop_assert_eq!(entry.expires(), Tick(now).after(new.timeout));
        let meta = entry.meta();
        prop_assert_eq!((meta.protocol, meta.via, meta.state), (6, Via::FullNat, state));
        prop_assert_eq!((meta.local, meta.peer, meta.flags), (local, peer, flags));
        entry.restart(Tick(now).after(Ticks(5)), Ticks::from_secs(60));
        prop_assert_eq!(entry.packets(), 1);
        prop_assert_eq!(entry.timeout().as_secs(), 60);
        prop_assert_eq!(entry.expires(), Tick(now).after(Ticks(5)).after(Ticks::from_secs(60)));
    }
}
