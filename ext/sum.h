/* One's complement sums of octets, plain and while copying (RFC 1071), for the kernels.
 *
 * Theory of operation. A one's complement sum does not care in which order carries come back,
 * nor how wide the words are that are added: 32-bit words in the machine's own octet order go
 * into 64-bit accumulators. They are read in pairs, whose halves have an accumulator each: for
 * vectors a mask and a shift, where single words would have to be spread over lanes. Carries are
 * folded in at the end and the two octets swapped where the machine is little-endian (RFC 1071
 * section 2 B). One loop is compiled for the baseline and, on x86-64, for AVX2 as well; a
 * pointer set when the module is loaded says which of them runs.
 *
 * What sum_octets and copy_octets return is in the machine's order and not folded; add such
 * sums, fold16 the total, and read it with host16. A piece at an odd offset of its whole weighs
 * 256 times as much: fold16 its sum and swap16 it first.
 */
#ifndef NETSTACK_SUM_H
#define NETSTACK_SUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* 2**28 words of 32 bits make a sum below 2**60: no carry is lost in a 64-bit accumulator. */
#define SUM_BLOCK ((size_t)1 << 30) /* octets, a multiple of 4 */

#define SUM_LOOPS(suffix, attribute)                                                         \
    attribute static uint64_t sum_words_##suffix(const unsigned char *octets, size_t words)  \
    {                                                                                        \
        uint64_t low = 0, high = 0;                                                          \
        for (size_t index = 0; index < words / 2; index++) {                                 \
            uint64_t pair;                                                                   \
            memcpy(&pair, octets + 8 * index, 8); /* one unaligned load */                   \
            low += pair & 0xFFFFFFFFu;                                                       \
            high += pair >> 32;                                                              \
        }                                                                                    \
        if (words & 1) {                                                                     \
            uint32_t word;                                                                   \
            memcpy(&word, octets + 4 * (words - 1), 4);                                      \
            low += word;                                                                     \
        }                                                                                    \
        return low + high;                                                                   \
    }                                                                                        \
    attribute static uint64_t copy_words_##suffix(                                           \
        unsigned char *restrict target, const unsigned char *restrict octets, size_t words)  \
    {                                                                                        \
        uint64_t low = 0, high = 0;                                                          \
        for (size_t index = 0; index < words / 2; index++) {                                 \
            uint64_t pair;                                                                   \
            memcpy(&pair, octets + 8 * index, 8);                                            \
            memcpy(target + 8 * index, &pair, 8);                                            \
            low += pair & 0xFFFFFFFFu;                                                       \
            high += pair >> 32;                                                              \
        }                                                                                    \
        if (words & 1) {                                                                     \
            uint32_t word;                                                                   \
            memcpy(&word, octets + 4 * (words - 1), 4);                                      \
            memcpy(target + 4 * (words - 1), &word, 4);                                      \
            low += word;                                                                     \
        }                                                                                    \
        return low + high;                                                                   \
    }

SUM_LOOPS(baseline, )

static uint64_t (*sum_words)(const unsigned char *, size_t) = sum_words_baseline;
static uint64_t (*copy_words)(unsigned char *restrict, const unsigned char *restrict, size_t) =
    copy_words_baseline;

#if defined(__x86_64__) && defined(__GNUC__)
SUM_LOOPS(avx2, __attribute__((target("avx2"))))

/* Choose the loops for this machine; to be called once, when a module is loaded. */
static void choose_loops(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        sum_words = sum_words_avx2;
        copy_words = copy_words_avx2;
    }
}
#else
static void choose_loops(void)
{
}
#endif

/* Return the total with what lies above 32 bits added back in, below 2**33. */
static inline uint64_t fold32(uint64_t total)
{
    return (total & 0xFFFFFFFFu) + (total >> 32);
}

/* Return the total with its carries added back in until 16 bits are left. */
static inline uint32_t fold16(uint64_t total)
{
    total = fold32(fold32(total));
    total = (total & 0xFFFF) + (total >> 16);
    total = (total & 0xFFFF) + (total >> 16);
    return (uint32_t)((total & 0xFFFF) + (total >> 16));
}

/* Return 16 bits with their octets swapped: 256 times as much, modulo 65535. */
static inline uint32_t swap16(uint32_t sum)
{
    return (sum >> 8) | ((sum & 0xFF) << 8);
}

/* Return a folded sum of words in the machine's order as the sum of words in network order. */
static inline uint32_t host16(uint32_t sum)
{
    const uint16_t probe = 1;
    return *(const unsigned char *)&probe ? swap16(sum) : sum;
}

/* Return the last word of a whole, the octets that it lacks being zeros. */
static inline uint32_t last_word(const unsigned char *octets, size_t length)
{
    unsigned char padded[4] = {0, 0, 0, 0};
    uint32_t word;
    for (size_t index = 0; index < length; index++)
        padded[index] = octets[index];
    memcpy(&word, padded, 4);
    return word;
}

/* Return the sum of octets at any alignment; below 2**61. */
static inline uint64_t sum_octets(const unsigned char *octets, size_t length)
{
    uint64_t total = 0;
    while (length > SUM_BLOCK) {
        total = fold32(total + sum_words(octets, SUM_BLOCK / 4));
        octets += SUM_BLOCK;
        length -= SUM_BLOCK;
    }
    total += sum_words(octets, length / 4);
    if (length & 3)
        total += last_word(octets + (length & ~(size_t)3), length & 3);
    return total;
}

/* Copy octets to where they don't overlap; return their sum, below 2**61. */
static inline uint64_t copy_octets(
    unsigned char *restrict target, const unsigned char *restrict octets, size_t length)
{
    uint64_t total = 0;
    size_t rest = length & 3, whole = length - rest;
    while (whole > SUM_BLOCK) {
        total = fold32(total + copy_words(target, octets, SUM_BLOCK / 4));
        target += SUM_BLOCK;
        octets += SUM_BLOCK;
        whole -= SUM_BLOCK;
    }
    total += copy_words(target, octets, whole / 4);
    if (rest) {
        memcpy(target + whole, octets + whole, rest);
        total += last_word(octets + whole, rest);
    }
    return total;
}

#endif
