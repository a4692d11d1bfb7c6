/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Reading frames: one way to get at headers for programs that see a socket
 * buffer (socket filter, tc) and for those that see a bare frame (XDP), and the
 * walk from the Ethernet header to the transport header.
 *
 * Every function is inlined, so that `frame.hook` is a constant in each program
 * and the compiler drops the branches for the other hooks.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define inline static __always_inline

/* Where a program runs. */
enum hook {
	HOOK_SOCKET, /* a packet socket's filter; context struct __sk_buff */
	HOOK_TC,     /* traffic control;          context struct __sk_buff */
	HOOK_XDP,    /* the driver;               context struct xdp_md */
};

struct frame {
	enum hook hook;
	void *ctx;
};

/* Beyond where any header can start: behind six extension headers of 2 KiB. */
#define MAX_OFFSET 0x3fff

/* The address of `bytes` bytes at `offset`, or NULL when the frame is shorter. */
inline const void *xdp_bytes(const struct xdp_md *xdp, __u32 offset, __u32 bytes)
{
	const void *end = (const void *)(long)xdp->data_end;
	const void *at;

	/* The verifier needs this bound. The compiler, which can tell that it always
	 * holds, must not know what is compared. */
	if (!__builtin_constant_p(offset)) {
		asm volatile("" : "+r"(offset));
		if (offset > MAX_OFFSET)
			return NULL;
	}
	at = (const void *)(long)xdp->data + offset;
	/* Nor may it compute the pointer anew once this one has been checked. */
	asm volatile("" : "+r"(at));
	return at + bytes > end ? NULL : at;
}

inline const void *header_bytes(const struct frame *frame, __u32 offset, __u32 bytes, void *buffer)
{
	if (frame->hook == HOOK_XDP)
		return xdp_bytes(frame->ctx, offset, bytes);
	/* Socket filters cannot read the frame in place. */
	return bpf_skb_load_bytes(frame->ctx, offset, buffer, bytes) ? NULL : buffer;
}

/*
 * The header at `offset`, in the frame or, like skb_header_pointer(), copied to
 * `*buffer`; NULL when the frame is shorter.
 */
#define header(frame, offset, buffer) \
	((const typeof(*(buffer)) *)header_bytes(frame, offset, sizeof(*(buffer)), buffer))

/* struct ethhdr is packed, so that the compiler would read it byte by byte. */
struct ethernet {
	__be16 destination[ETH_ALEN / 2];
	__be16 source[ETH_ALEN / 2];
	__be16 type;
};

struct vlan_tag {
	__be16 id;
	__be16 type;
};

/* ARP for IPv4 over Ethernet. */
struct arp_packet {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__be32 target_ip;
} __attribute__((packed, aligned(2)));

enum {
	ARP_ETHERNET = 1,
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
};

/* ICMP and ICMPv6. linux/icmp.h would need the C library's 32-bit headers. */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

enum {
	ICMP_UNREACHABLE = 3,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,

	ICMP6_UNREACHABLE = 1,
	ICMP6_PARAMETER_PROBLEM = 4,
	ICMP6_NEIGHBOUR_SOLICITATION = 135,
	ICMP6_NEIGHBOUR_ADVERTISEMENT = 136,
};

/* TCP, UDP, and SCTP all begin with the two ports. */
struct ports {
	__be16 source;
	__be16 destination;
};

/* An IP packet down to its transport header. */
struct packet {
	struct in6_addr source;      /* IPv4 addresses are mapped into IPv6 */
	struct in6_addr destination;
	__u8 protocol;               /* IPPROTO_RAW for one that the IP version lacks */
	bool fragment;
	__u32 transport;             /* offset of the transport header */
};

#ifndef IPPROTO_SCTP
#define IPPROTO_SCTP 132
#endif

inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* ::ffff:a.b.c.d */
inline void map_ipv4(struct in6_addr *to, __be32 address)
{
	to->in6_u.u6_addr32[0] = 0;
	to->in6_u.u6_addr32[1] = 0;
	to->in6_u.u6_addr32[2] = bpf_htonl(0xffff);
	to->in6_u.u6_addr32[3] = address;
}

/*
 * Sets `*offset` to that of the network header and returns the Ethernet type,
 * behind at most one VLAN tag; 0 when the frame is too short.
 */
inline __be16 network_header(const struct frame *frame, const struct ethernet *ethernet,
			     __u32 *offset)
{
	struct vlan_tag buffer;
	const struct vlan_tag *tag;

	*offset = sizeof(*ethernet);
	if (ethernet->type != bpf_htons(ETH_P_8021Q) && ethernet->type != bpf_htons(ETH_P_8021AD))
		return ethernet->type;
	tag = header(frame, *offset, &buffer);
	if (!tag)
		return 0;
	*offset += sizeof(*tag);
	return tag->type;
}

/* The length of an IPv4 header, or 0 when it is none. */
inline __u32 ipv4_header_bytes(const struct iphdr *ip)
{
	return ip->version == 4 && ip->ihl >= 5 ? ip->ihl * 4 : 0;
}

inline bool parse_ipv4(const struct frame *frame, __u32 offset, struct packet *packet)
{
	struct iphdr buffer;
	const struct iphdr *ip = header(frame, offset, &buffer);
	__u32 bytes = ip ? ipv4_header_bytes(ip) : 0;

	if (!bytes)
		return false;
	map_ipv4(&packet->source, ip->saddr);
	map_ipv4(&packet->destination, ip->daddr);
	/* Nothing in IPv4 is ICMPv6. */
	packet->protocol = ip->protocol == IPPROTO_ICMPV6 ? IPPROTO_RAW : ip->protocol;
	/* More fragments, or an offset. */
	packet->fragment = ip->frag_off & bpf_htons(0x3fff);
	packet->transport = offset + bytes;
	return true;
}

/* IPv6 extension headers that are looked behind. */
#define EXTENSION_HEADERS 6

inline bool parse_ipv6(const struct frame *frame, __u32 offset, struct packet *packet)
{
	struct ipv6hdr buffer;
	const struct ipv6hdr *ip = header(frame, offset, &buffer);
	__u8 protocol;
	int i;

	if (!ip || ip->version != 6)
		return false;
	packet->source = ip->saddr;
	packet->destination = ip->daddr;
	packet->fragment = false;
	protocol = ip->nexthdr;
	offset += sizeof(*ip);
#pragma unroll
	for (i = 0; i < EXTENSION_HEADERS; i++) {
		struct ipv6_opt_hdr space;
		const struct ipv6_opt_hdr *extension;
		__u32 unit, first;

		if (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
		    protocol == IPPROTO_DSTOPTS) {
			unit = 8;
			first = 1;
		} else if (protocol == IPPROTO_AH) {
			unit = 4;
			first = 2;
		} else {
			packet->fragment = protocol == IPPROTO_FRAGMENT;
			break;
		}
		extension = header(frame, offset, &space);
		if (!extension)
			return false;
		protocol = extension->nexthdr;
		offset += (extension->hdrlen + first) * unit;
	}
	/* Nothing in IPv6 is ICMP. */
	packet->protocol = protocol == IPPROTO_ICMP ? IPPROTO_RAW : protocol;
	packet->transport = offset;
	return true;
}
