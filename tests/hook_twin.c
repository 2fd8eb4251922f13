// The C that the assembled program stands for (docs/HOOK.md), without options: tests/hook_twin.rs has
// clang compile it, loads both, and holds what they write against each other.
//
// Places and sizes come from the command line (-D), as the assembler gets them from the kernel's types.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define AT(type, base, offset) (*(type *)((char *)(base) + (offset)))
#define VOLATILE(type, base, offset) (*(volatile type *)((char *)(base) + (offset)))
#define barrier() __asm__ volatile("" ::: "memory")

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static long (*bpf_probe_read_kernel)(void *to, u32 bytes, const void *from) = (void *)113;
static long (*bpf_dynptr_read)(void *to, u32 bytes, void *pointer, u32 offset, u64 flags) = (void *)201;
static u64 (*bpf_ktime_get_tai_ns)(void) = (void *)208;
extern int bpf_dynptr_from_skb(void *skb, u64 flags, void *pointer) __attribute__((section(".ksyms")));

// Relocated by the test: a map, and a map's value.
extern int rings __attribute__((section(".maps")));
extern char settings[] __attribute__((section(".value")));

enum { HEAD = 0, DETECTED = 8, DROPPED = 16, LEFT_PAUSED = 64, TAIL = 128, BYTES = 4096, PACKET = 48 };
enum { LATE = 0, TAI_AHEAD = 64, WANTED = 72 };
enum { ACCEPT = 1, ARPHRD_ETHER = 1, ARPHRD_LOOPBACK = 772 };

int hook(void *ctx)
{
	void *skb = AT(void *, ctx, CTX_SKB);
	u32 cpu = bpf_get_smp_processor_id();
	char *ring = bpf_map_lookup_elem(&rings, &cpu);
	if (!ring) {
		__sync_fetch_and_add((u64 *)(settings + LATE), 1);
		return ACCEPT;
	}
	AT(u64, ring, DETECTED)++;

	if (!VOLATILE(u64, settings, WANTED)) {
		AT(u64, ring, LEFT_PAUSED)++;
		return ACCEPT;
	}
	u32 length = AT(u32, skb, SKB_LEN), captured = VOLATILE(u32, settings, WANTED);
	if (captured > length)
		captured = length;
	if (captured > COPY_RANGE) // the verifier has to see a number
		captured = COPY_RANGE;
	u64 total = (PACKET + captured + 7) & ~7ull;
	if (AT(u64, ring, HEAD) + total - VOLATILE(u64, ring, TAIL) > RING) {
		AT(u64, ring, DROPPED)++;
		return ACCEPT;
	}
	u64 place = AT(u64, ring, HEAD);
	barrier(); // the verifier has to see the mask on what is added
	place &= RING - 8;
	char *record = ring + place + BYTES;
	AT(u32, record, 0) = total;
	AT(u32, record, 4) = length;
	AT(u32, record, 20) = captured;

	u64 time = AT(u64, skb, SKB_TSTAMP);
	if (!time || AT(u8, skb, SKB_TSTAMP_TYPE) & SKB_TSTAMP_TYPE_MASK) // a time to send at
		time = bpf_ktime_get_tai_ns() - VOLATILE(u64, settings, TAI_AHEAD);
	AT(u64, record, 8) = time;
	AT(u32, record, 16) = AT(u64, ring, DROPPED);
	AT(u32, record, 28) = AT(u32, skb, SKB_MARK);
	void *dev = AT(void *, skb, SKB_DEV);
	u16 type = AT(u16, dev, DEV_TYPE);
	AT(u32, record, 24) = AT(u32, dev, DEV_IFINDEX);
	AT(u16, record, 32) = type;

	if (type == ARPHRD_ETHER || type == ARPHRD_LOOPBACK) {
		void *mac = AT(char *, skb, SKB_HEAD) + AT(u16, skb, SKB_MAC_HEADER);
		bpf_probe_read_kernel(record + 34, 14, mac);
	}
	u64 pointer[2] = {};
	bpf_dynptr_from_skb(skb, 0, pointer);
	if (captured <= COPY_RANGE)
		bpf_dynptr_read(record + PACKET, captured, pointer, 0, 0);

	u64 head = AT(u64, ring, HEAD), next = head + total;
	if ((head & (RING - 1)) + total >= RING)
		next = (head | (RING - 1)) + 1;
	barrier();
	VOLATILE(u64, ring, HEAD) = next;
	return ACCEPT;
}
