// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Steering: which frames are the dataplane's and which are the host's.
 *
 *                    +-- packet socket (viaduct_tap) --> worker
 *   card --> driver -+-- tc ingress (viaduct_ingress) --> host's stack
 *               |                        ^
 *               |                        | bpf_redirect
 *               |    tc egress (viaduct_egress) <-- worker, with a mark
 *               |
 *               +-- viaduct_xdp --> AF_XDP socket --> worker
 *
 * The kernel shows an arriving frame to packet sockets first and to tc ingress
 * then. The tap lets claimed frames into the socket and notes its judgement in
 * the frame's control block; ingress drops what the tap claimed. With AF_XDP
 * sockets the driver's program takes claimed frames before either.
 *
 * A frame that a worker finds to be the host's leaves by the interface with the
 * mark REINJECTED. The egress program turns it round, and it comes in as if it
 * had just arrived.
 */
#include "judge.h"

char _license[] SEC("license") = "Dual MIT/GPL";

/* The mark of a frame on its way back to the host's stack; `steer::REINJECTED`. */
#define REINJECTED 0x56494144

/*
 * What the tap leaves in cb[0] and cb[1]: a sign that it judged, and its
 * judgement. Others use the control block as well; two words do not come about
 * by chance.
 */
#define JUDGED 0x6a756467
#define CLAIMED 0x636c6169
#define LEFT 0x6c656674

/* `enum tc` of linux/pkt_cls.h. */
#define TC_NEXT (-1) /* go on with the next program or filter */
#define TC_DROP 2

/* linux/if_packet.h */
#define PACKET_HOST 0
#define PACKET_OTHERHOST 3

inline bool is_known_station(__u32 interface, const struct ethernet *ethernet)
{
	const struct station station = {
		.interface = interface,
		.mac = { ethernet->destination[0], ethernet->destination[1],
			 ethernet->destination[2] },
	};

	return bpf_map_lookup_elem(&macs, &station);
}

/* On the packet socket. Returns how much of the frame the socket gets. */
SEC("socket")
int viaduct_tap(struct __sk_buff *skb)
{
	const struct frame frame = { HOOK_SOCKET, skb };
	enum judgement judgement = HOST;
	struct ethernet buffer;
	const struct ethernet *ethernet;

	if (skb->mark == REINJECTED)
		return 0;
	ethernet = header(&frame, 0, &buffer);
	if (ethernet && (skb->pkt_type != PACKET_OTHERHOST ||
			 is_known_station(skb->ifindex, ethernet)))
		judgement = judge(&frame, ethernet);
	skb->cb[0] = JUDGED;
	skb->cb[1] = judgement == CLAIM ? CLAIMED : LEFT;
	return judgement == HOST ? 0 : -1;
}

/*
 * At ingress: whether the frame is the dataplane's. What is not goes on to the
 * host's stack, which takes it whatever its Ethernet destination once its type is
 * PACKET_HOST.
 */
inline bool is_claimed(struct __sk_buff *skb)
{
	const struct frame frame = { HOOK_TC, skb };
	struct ethernet buffer;
	const struct ethernet *ethernet;

	if (skb->mark == REINJECTED) {
		skb->mark = 0;
		bpf_skb_change_type(skb, PACKET_HOST);
		return false;
	}
	if (skb->pkt_type == PACKET_OTHERHOST) {
		ethernet = header(&frame, 0, &buffer);
		if (!ethernet || !is_known_station(skb->ifindex, ethernet))
			return false;
		/* The virtual address of a master is the gateway of others, whose
		 * packets the host routes. */
		bpf_skb_change_type(skb, PACKET_HOST);
	}
	if (skb->cb[0] == JUDGED) {
		if (skb->cb[1] == CLAIMED)
			return true;
		if (skb->cb[1] == LEFT)
			return false;
	}
	/* When memory is short the kernel shows a frame to no packet socket. */
	ethernet = header(&frame, 0, &buffer);
	return ethernet && judge(&frame, ethernet) == CLAIM;
}

SEC("classifier")
int viaduct_ingress(struct __sk_buff *skb)
{
	return is_claimed(skb) ? TC_DROP : TC_NEXT;
}

/* Turns frames for the host round, so that they come in by the interface. */
inline int turn_marked(const struct __sk_buff *skb)
{
	return skb->mark == REINJECTED ? bpf_redirect(skb->ifindex, BPF_F_INGRESS) : TC_NEXT;
}

SEC("classifier")
int viaduct_egress(struct __sk_buff *skb)
{
	return turn_marked(skb);
}

/*
 * The same again. The kernel takes no program twice on one interface, and an
 * interface that is opened again has its old guard beside the new one for a
 * moment.
 */
SEC("classifier")
int viaduct_ingress2(struct __sk_buff *skb)
{
	return is_claimed(skb) ? TC_DROP : TC_NEXT;
}

SEC("classifier")
int viaduct_egress2(struct __sk_buff *skb)
{
	return turn_marked(skb);
}

/*
 * Before Linux 6.6 the kernel keeps the program when the daemon dies. It drops
 * frames only while the daemon lives.
 */
SEC("classifier")
int viaduct_legacy(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct bpf_sock *daemon;

	if (!is_claimed(skb))
		return TC_NEXT;
	daemon = bpf_map_lookup_elem(&life, &key);
	if (!daemon)
		return TC_NEXT;
	bpf_sk_release(daemon);
	return TC_DROP;
}

/* In the driver: claimed frames go to the socket of their queue, if it has one. */
SEC("xdp")
int viaduct_xdp(struct xdp_md *xdp)
{
	const struct frame frame = { HOOK_XDP, xdp };
	__u32 interface = xdp->ingress_ifindex;
	struct ethernet buffer;
	const struct ethernet *ethernet = header(&frame, 0, &buffer);
	void *queues;

	if (!ethernet)
		return XDP_PASS;
	/* Unlike the stack, a driver does not say whether a frame is for its interface. */
	if (!(ethernet->destination[0] & bpf_htons(0x0100)) &&
	    !is_known_station(interface, ethernet))
		return XDP_PASS;
	if (judge(&frame, ethernet) != CLAIM)
		return XDP_PASS;
	queues = bpf_map_lookup_elem(&sockets, &interface);
	return queues ? bpf_redirect_map(queues, xdp->rx_queue_index, XDP_PASS) : XDP_PASS;
}
