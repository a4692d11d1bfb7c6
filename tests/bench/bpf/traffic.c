// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Traffic of the benchmarks, made and taken in by the kernel: nothing is between
 * these programs and the wire, and one clock serves both ends.
 */
#include "packet.h"

char _license[] SEC("license") = "Dual MIT/GPL";

#define FRAME_BYTES 60
/* Behind Ethernet, IPv4 and UDP: the time at which the frame left. */
#define STAMP 42
/* Delays are counted in steps of 256 ns. */
#define STEP_BITS 8
#define STEPS (1 << 17)
/*
 * Nanoseconds that the source may be late and still catch up. Beyond, another
 * program had the processor, and what was not sent then is not sent at all.
 */
#define MOST_BEHIND 200000

/* Set by the loader: the first 40 bytes of the frame, and the checksum of its
 * IPv4 header with the source address 10.1.0.0. */
volatile const __u32 headers[10] = {};
volatile const __u16 network_checksum = 0;

struct orders {
	__u64 next;     /* when the next frame is due */
	__u64 interval; /* between two frames, in nanoseconds */
	__u64 sent;     /* frames since the last order */
	__u64 spread;   /* two million flows without a stamp, instead of 256 with one */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct orders);
} orders SEC(".maps");

/* How often each delay occurred, by steps. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEPS);
	__type(key, __u32);
	__type(value, __u64);
} delays SEC(".maps");

/*
 * Writes the headers again, as recycled pages keep what the receiver changed.
 * Returns the frame, or NULL when it is too short.
 */
inline __u8 *write_headers(const struct xdp_md *xdp)
{
	__u8 *frame = (__u8 *)xdp_bytes(xdp, 0, FRAME_BYTES);
	int i;

	if (!frame)
		return NULL;
#pragma unroll
	for (i = 0; i < 10; i++)
		((__u32 *)frame)[i] = headers[i];
	/* No UDP checksum. */
	*(__u16 *)(frame + 40) = 0;
	return frame;
}

SEC("xdp")
int drop(struct xdp_md *xdp __attribute__((unused)))
{
	return XDP_DROP;
}

/* Sends every frame, from one of 256 source ports. */
SEC("xdp")
int flood(struct xdp_md *xdp)
{
	__u8 *frame = write_headers(xdp);

	if (!frame)
		return XDP_DROP;
	frame[35] = bpf_get_prandom_u32();
	/* Out of the interface that the frame is said to come from. */
	return XDP_TX;
}

/* Runs over and over: sends a frame when one is due. */
SEC("xdp")
int paced(struct xdp_md *xdp)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 key = 0, random;
	struct orders *order = bpf_map_lookup_elem(&orders, &key);
	__u64 due;
	__u8 *frame;

	if (!order || order->next > now)
		return XDP_DROP;
	due = order->next + MOST_BEHIND >= now ? order->next : now;
	order->next = due + order->interval;
	order->sent++;
	random = bpf_get_prandom_u32();
	frame = write_headers(xdp);
	if (!frame)
		return XDP_DROP;
	if (!order->spread) {
		*(__u64 *)(frame + STAMP) = now;
		frame[35] = random;
		return XDP_TX;
	}
	*(__u64 *)(frame + STAMP) = 0;
	/*
	 * The source address ends in 16 random bits; the identification is their
	 * complement, so that the header's checksum stays that of an address which
	 * ends in zeroes.
	 */
	*(__u16 *)(frame + 24) = network_checksum;
	*(__u16 *)(frame + 28) = random;
	*(__u16 *)(frame + 18) = ~random;
	frame[35] = random >> 16 & 0x1f;
	return XDP_TX;
}

/* Counts how long a frame with a stamp took, and drops it. */
SEC("xdp")
int sink(struct xdp_md *xdp)
{
	__u64 now = bpf_ktime_get_ns();
	const __u8 *frame = xdp_bytes(xdp, 0, STAMP + sizeof(__u64));
	__u64 stamp, step, *count;
	__u32 key;

	if (!frame)
		return XDP_DROP;
	stamp = *(__u64 *)(frame + STAMP);
	if (!stamp)
		return XDP_DROP;
	step = (now - stamp) >> STEP_BITS;
	key = step < STEPS ? step : STEPS - 1;
	count = bpf_map_lookup_elem(&delays, &key);
	if (count)
		(*count)++;
	return XDP_DROP;
}
