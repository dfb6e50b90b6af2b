/* The two encoders that every append runs, compiled: encode_batch of storage/record.py and encode_marks of
 * storage/marks.py. Those say what the bytes mean, give the same ones (tests/storage/test_encoding.py), and take over
 * where these files were not built (storage/encoding.py).
 *
 * A processor that slept during a sync runs interpreted code at half its usual speed, which costs a batch of one
 * record more than all else but the sync; and a batch of hundreds of records takes a tenth of the time here.
 *
 * Functions that return an int return -1 with an exception set, else 0.
 */

#ifndef RAFTACTORS_ENCODER_H
#define RAFTACTORS_ENCODER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if PY_BIG_ENDIAN
#error "the layout is little endian; the Python form of these functions is used instead"
#endif

/* crc32c.c: CRC32C of `length` bytes, going on from `*crc`. `crc_of_short` is for less than BULK_BYTES. */

enum { BULK_BYTES = 2048 };

extern uint32_t (*crc_of_short)(uint32_t crc, const unsigned char *at, size_t length);
int crc_of(uint32_t *crc, const unsigned char *at, size_t length);
int prepare_crc(void);

/* module.c */

int to_u64(PyObject *value, uint64_t *number);
int check_tuple(PyObject *object, Py_ssize_t length, const char *what); /* A named tuple is a tuple of that length. */
PyObject *taken_from(const char *module_name, const char *name);

/* batch.c, marks.c */

int prepare_batch(void);
PyObject *encode_batch(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *encode_marks(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names);

#endif
