/* CRC32C: by the processor's own instruction where there is one; long runs by the crc32c package, which takes three
 * lanes at once.
 */

#include "encoder.h"

static PyObject *package_crc32c;
static uint32_t table[256];

static uint32_t crc_by_table(uint32_t crc, const unsigned char *at, size_t length)
{
    crc = ~crc;
    while (length--)
        crc = table[(crc ^ *at++) & 0xFF] ^ (crc >> 8);
    return ~crc;
}

uint32_t (*crc_of_short)(uint32_t, const unsigned char *, size_t) = crc_by_table;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(CRC_BY_TABLE)
__attribute__((target("sse4.2"))) static uint32_t crc_by_sse42(uint32_t crc, const unsigned char *at, size_t length)
{
    uint64_t state = (uint32_t)~crc, word;
    for (; length >= 8; at += 8, length -= 8) {
        memcpy(&word, at, 8);
        state = __builtin_ia32_crc32di(state, word);
    }
    while (length--)
        state = __builtin_ia32_crc32qi((uint32_t)state, *at++);
    return ~(uint32_t)state;
}

static void choose(void)
{
    if (__builtin_cpu_supports("sse4.2"))
        crc_of_short = crc_by_sse42;
}
#else
static void choose(void)
{
}
#endif

int crc_of(uint32_t *crc, const unsigned char *at, size_t length)
{
    if (length < BULK_BYTES) {
        *crc = crc_of_short(*crc, at, length);
        return 0;
    }
    PyObject *view = PyMemoryView_FromMemory((char *)at, (Py_ssize_t)length, PyBUF_READ);
    if (view == NULL)
        return -1;
    PyObject *found = PyObject_CallFunction(package_crc32c, "OI", view, (unsigned int)*crc);
    Py_DECREF(view);
    if (found == NULL)
        return -1;
    *crc = (uint32_t)PyLong_AsUnsignedLong(found);
    Py_DECREF(found);
    return PyErr_Occurred() ? -1 : 0;
}

int prepare_crc(void)
{
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t crc = value;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? 0x82F63B78 ^ (crc >> 1) : crc >> 1;
        table[value] = crc;
    }
    choose();
    package_crc32c = taken_from("crc32c", "crc32c");
    return package_crc32c == NULL ? -1 : 0;
}
