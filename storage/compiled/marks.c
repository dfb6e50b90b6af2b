/* encode_marks of storage/marks.py. */

#include "encoder.h"

enum { MARK_MAGIC = 0x4B52414D, MARK_BYTES = 32, SECTOR_BYTES = 512, BLOCK_BYTES = 4096 };

static int pack_mark(unsigned char *packed, PyObject *mark, uint32_t salt)
{
    uint32_t magic = MARK_MAGIC, crc;
    if (check_tuple(mark, 3, "a mark") < 0)
        return -1;
    memcpy(packed, &magic, 4);
    for (int i = 0; i < 3; i++) {
        uint64_t number;
        if (to_u64(PyTuple_GET_ITEM(mark, i), &number) < 0)
            return -1;
        memcpy(packed + 4 + 8 * i, &number, 8);
    }
    crc = crc_of_short(salt, packed, MARK_BYTES - 4);
    memcpy(packed + MARK_BYTES - 4, &crc, 4);
    return 0;
}

PyObject *encode_marks(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    uint64_t salt, stop;
    unsigned char packed[MARK_BYTES];
    if (count != 3 || names == NULL || PyTuple_GET_SIZE(names) != 1 ||
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "far") != 0) {
        PyErr_SetString(PyExc_TypeError, "encode_marks takes a salt, a mark, an offset, and far by name");
        return NULL;
    }
    int far = PyObject_IsTrue(arguments[3]);
    if (far < 0 || to_u64(arguments[0], &salt) < 0 || to_u64(arguments[2], &stop) < 0 ||
        pack_mark(packed, arguments[1], (uint32_t)salt) < 0)
        return NULL;
    uint64_t near = (stop + SECTOR_BYTES - 1) & -(uint64_t)SECTOR_BYTES, edge = near | (BLOCK_BYTES - SECTOR_BYTES);
    uint64_t beyond = (stop & -(uint64_t)BLOCK_BYTES) + BLOCK_BYTES;
    if (edge == near)
        edge += SECTOR_BYTES;
    uint64_t last = far && beyond > edge ? beyond : edge;
    size_t length = (size_t)((last & -(uint64_t)BLOCK_BYTES) + BLOCK_BYTES - stop);
    PyObject *found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (found == NULL)
        return NULL;
    char *start = PyBytes_AS_STRING(found);
    memset(start, 0, length);
    memcpy(start + (near - stop), packed, MARK_BYTES);
    memcpy(start + (edge - stop), packed, MARK_BYTES);
    memcpy(start + (last - stop), packed, MARK_BYTES);
    return found;
}
