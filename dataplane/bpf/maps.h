/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The maps that the daemon fills and programs look up. `src/io/steer/rules.rs`
 * has the same tables and says what they mean; `src/io/steer/maps.rs` writes them.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in6.h>
#include <bpf/bpf_helpers.h>

/* Flags of an address. */
enum {
	OWNED = 1,         /* the dataplane answers for it */
	LOCAL = 2,         /* it is the host's */
	POOL = 4,          /* a source of full NAT, with the ports low to high */
	REAL = 8,          /* a real server whose replies come through the director */
	WIDE_SERVICE = 16, /* some service there has more ports than one */
	WIDE_REAL = 32,    /* some real server there has more ports than one */
};

struct address {
	__u32 flags;
	__u16 low;
	__u16 high;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, struct in6_addr);
	__type(value, struct address);
} addresses SEC(".maps");

/* Which side of a flow an endpoint is. */
enum side {
	SIDE_SERVICE, /* destination: a virtual service */
	SIDE_REAL,    /* source: a real server */
	SIDE_TUNNEL,  /* destination in an ICMP error: the far end of a tunnel */
};

struct endpoint {
	struct in6_addr address;
	__be16 port; /* 0 for more than one */
	__u8 protocol;
	__u8 side;
};

/* Values of endpoints. */
enum {
	MATCHING = 1, /* the port of the key, or every port when that is 0 */
	FTP_DATA = 2, /* port 20 and all from 1024 */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, struct endpoint);
	__type(value, __u32);
} endpoints SEC(".maps");

struct prefix {
	__u32 bits;
	struct in6_addr address;
};

/* Networks of mark rules; the value says whether the longest match is covered. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 12);
	__type(key, struct prefix);
	__type(value, __u32);
} prefixes SEC(".maps");

struct station {
	__u32 interface;
	__be16 mac[ETH_ALEN / 2];
	__u16 unused;
};

/* Ethernet addresses that an interface takes frames for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 10);
	__type(key, struct station);
	__type(value, __u32);
} macs SEC(".maps");

/*
 * AF_XDP sockets, by interface index and receive queue. An array, because that
 * lookup is a few instructions; interfaces with a higher index have no sockets.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_XSKMAP);
		__uint(max_entries, 1 << 10);
		__type(key, __u32);
		__type(value, __u32);
	});
} sockets SEC(".maps");

/*
 * A socket of the daemon. The kernel takes it out when it is closed, by whatever
 * death, so this entry says whether the daemon lives.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} life SEC(".maps");
