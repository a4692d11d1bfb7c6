/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The steering rule: whose a frame is. `src/io/steer/judge.rs` is its
 * specification; a test compares the two on random rules and frames. This one
 * looks for the exact service first, because that is what most frames are for.
 */
#pragma once

#include "maps.h"
#include "packet.h"

enum judgement {
	HOST,  /* the host's; the dataplane does not see it */
	BOTH,  /* the host's, and the dataplane sees a copy: answers to neighbour resolution */
	CLAIM, /* the dataplane's; the host does not see it */
};

inline enum judgement claim_if(bool claimed)
{
	return claimed ? CLAIM : HOST;
}

inline __u32 flags_of(const struct in6_addr *address)
{
	const struct address *entry = bpf_map_lookup_elem(&addresses, address);

	return entry ? entry->flags : 0;
}

/* The value of an endpoint, or 0 when it is not there. */
inline __u32 endpoint(const struct in6_addr *address, __u8 protocol, __be16 port, enum side side)
{
	const struct endpoint key = {
		.address = *address,
		.port = port,
		.protocol = protocol,
		.side = side,
	};
	const __u32 *value = bpf_map_lookup_elem(&endpoints, &key);

	return value ? *value : 0;
}

/* Whether an endpoint with more ports than one has this port. */
inline bool wide_endpoint(const struct in6_addr *address, __u8 protocol, __be16 port,
			  enum side side)
{
	__u32 value = endpoint(address, protocol, 0, side);
	__u16 number = bpf_ntohs(port);

	return value & MATCHING || (value & FTP_DATA && (number == 20 || number >= 1024));
}

/* Whether it is a real server whose replies come through the director. */
inline bool is_real(const struct in6_addr *address, __u8 protocol, __be16 port)
{
	/* The daemon writes these only for addresses that are REAL. */
	if (endpoint(address, protocol, port, SIDE_REAL))
		return true;
	return flags_of(address) & WIDE_REAL && wide_endpoint(address, protocol, port, SIDE_REAL);
}

/* Whether a mark rule covers the destination, which is not just the host's own. */
inline bool is_covered(const struct in6_addr *destination, __u32 flags)
{
	const struct prefix key = { .bits = 128, .address = *destination };
	const __u32 *covered;

	if ((flags & (LOCAL | OWNED)) == LOCAL)
		return false;
	covered = bpf_map_lookup_elem(&prefixes, &key);
	return covered && *covered;
}

inline bool in_pool(const struct address *to, __be16 port)
{
	__u16 number = bpf_ntohs(port);

	return to->flags & POOL && number >= to->low && number <= to->high;
}

inline enum judgement judge_arp(const struct frame *frame, __u32 offset)
{
	struct arp_packet buffer;
	const struct arp_packet *arp = header(frame, offset, &buffer);
	struct in6_addr target;

	if (!arp || arp->hardware != bpf_htons(ARP_ETHERNET) ||
	    arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_bytes != ETH_ALEN ||
	    arp->protocol_bytes != sizeof(arp->target_ip))
		return HOST;
	if (arp->operation == bpf_htons(ARP_REPLY))
		return BOTH;
	if (arp->operation != bpf_htons(ARP_REQUEST))
		return HOST;
	map_ipv4(&target, arp->target_ip);
	return claim_if(flags_of(&target) & OWNED);
}

/* The packet that an ICMP error is about. */
struct quoted {
	struct in6_addr destination;
	__u8 protocol;
	__u32 transport;
};

/* An ICMP error is claimed when it is about what the dataplane sent to a real
 * server or into a tunnel. */
inline enum judgement judge_quoted(const struct frame *frame, const struct quoted *quoted,
				   const struct address *to)
{
	const struct in6_addr *destination = &quoted->destination;
	__u8 protocol = quoted->protocol;
	struct ports buffer;
	const struct ports *ports;

	if (protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 || protocol == IPPROTO_GRE)
		return claim_if(endpoint(destination, protocol, 0, SIDE_TUNNEL));
	if (!has_ports(protocol))
		return HOST;
	ports = header(frame, quoted->transport, &buffer);
	if (!ports)
		return HOST;
	if (endpoint(destination, protocol, ports->destination, SIDE_TUNNEL))
		return CLAIM;
	if (to->flags & LOCAL && !in_pool(to, ports->source))
		return HOST;
	return claim_if(is_real(destination, protocol, ports->destination));
}

inline enum judgement judge_icmp(const struct frame *frame, __u32 offset, __u8 type,
				 const struct address *to)
{
	struct quoted quoted;
	struct iphdr buffer;
	const struct iphdr *ip;
	__u32 bytes;

	if (type != ICMP_UNREACHABLE && type != ICMP_TIME_EXCEEDED &&
	    type != ICMP_PARAMETER_PROBLEM)
		return HOST;
	offset += sizeof(struct icmp);
	ip = header(frame, offset, &buffer);
	bytes = ip ? ipv4_header_bytes(ip) : 0;
	/* Only a first fragment has ports. */
	if (!bytes || ip->frag_off & bpf_htons(0x1fff))
		return HOST;
	map_ipv4(&quoted.destination, ip->daddr);
	quoted.protocol = ip->protocol;
	quoted.transport = offset + bytes;
	return judge_quoted(frame, &quoted, to);
}

inline enum judgement judge_icmpv6(const struct frame *frame, __u32 offset, __u8 type,
				   const struct address *to)
{
	struct quoted quoted;
	struct ipv6hdr buffer;
	const struct ipv6hdr *ip;

	if (type == ICMP6_NEIGHBOUR_ADVERTISEMENT)
		return BOTH;
	if (type < ICMP6_UNREACHABLE || type > ICMP6_PARAMETER_PROBLEM)
		return HOST;
	offset += sizeof(struct icmp);
	ip = header(frame, offset, &buffer);
	if (!ip || ip->version != 6)
		return HOST;
	quoted.destination = ip->daddr;
	quoted.protocol = ip->nexthdr;
	quoted.transport = offset + sizeof(*ip);
	return judge_quoted(frame, &quoted, to);
}

struct solicitation {
	struct icmp header;
	struct in6_addr target;
};

/*
 * Judges ICMPv6 as far as the addresses of the packet do not matter: claims
 * solicitations for owned addresses. True when `*judgement` is final.
 */
inline bool judge_solicitation(const struct frame *frame, __u32 offset, enum judgement *judgement)
{
	struct solicitation buffer;
	const struct solicitation *solicitation;
	struct in6_addr target;
	__u8 space;
	const __u8 *type = header(frame, offset, &space);

	*judgement = HOST;
	if (!type)
		return true;
	if (*type != ICMP6_NEIGHBOUR_SOLICITATION)
		return false;
	solicitation = header(frame, offset, &buffer);
	if (!solicitation)
		return true;
	*judgement = CLAIM;
	target = solicitation->target;
	return flags_of(&target) & OWNED;
}

inline enum judgement judge_packet(const struct frame *frame, const struct packet *packet)
{
	const struct in6_addr *destination = &packet->destination;
	__u8 protocol = packet->protocol;
	bool ported = has_ports(protocol) && !packet->fragment;
	const struct address *entry;
	struct address to = {};
	struct ports buffer, ports = {};
	const struct ports *found;
	__u8 space;
	const __u8 *type;

	if (ported) {
		found = header(frame, packet->transport, &buffer);
		if (!found)
			return HOST;
		ports = *found;
		/* The daemon writes these only for addresses that are OWNED. */
		if (endpoint(destination, protocol, ports.destination, SIDE_SERVICE))
			return CLAIM;
	}
	entry = bpf_map_lookup_elem(&addresses, destination);
	if (entry)
		to = *entry;

	if (packet->fragment) {
		if (to.flags & OWNED || is_covered(destination, to.flags))
			return CLAIM;
		return claim_if((to.flags & POOL || !(to.flags & LOCAL)) &&
				flags_of(&packet->source) & REAL);
	}
	if (ported) {
		if ((to.flags & WIDE_SERVICE &&
		     wide_endpoint(destination, protocol, ports.destination, SIDE_SERVICE)) ||
		    is_covered(destination, to.flags) || in_pool(&to, ports.destination))
			return CLAIM;
		return claim_if(!(to.flags & LOCAL) &&
				is_real(&packet->source, protocol, ports.source));
	}
	if (protocol != IPPROTO_ICMP && protocol != IPPROTO_ICMPV6)
		return HOST;
	if (to.flags & OWNED || is_covered(destination, to.flags))
		return CLAIM;
	type = header(frame, packet->transport, &space);
	if (!type)
		return HOST;
	if (protocol == IPPROTO_ICMP)
		return judge_icmp(frame, packet->transport, *type, &to);
	return judge_icmpv6(frame, packet->transport, *type, &to);
}

/* Judges a frame whose Ethernet destination is the interface's, or a group. */
inline enum judgement judge(const struct frame *frame, const struct ethernet *ethernet)
{
	enum judgement judgement;
	struct packet packet;
	__u32 offset;

	switch (network_header(frame, ethernet, &offset)) {
	case bpf_htons(ETH_P_ARP):
		return judge_arp(frame, offset);
	case bpf_htons(ETH_P_IP):
		if (!parse_ipv4(frame, offset, &packet))
			return HOST;
		break;
	case bpf_htons(ETH_P_IPV6):
		if (!parse_ipv6(frame, offset, &packet))
			return HOST;
		if (packet.protocol == IPPROTO_ICMPV6 && !packet.fragment &&
		    judge_solicitation(frame, packet.transport, &judgement))
			return judgement;
		break;
	default:
		return HOST;
	}
	return judge_packet(frame, &packet);
}
