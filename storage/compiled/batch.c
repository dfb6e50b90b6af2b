/* encode_batch of storage/record.py. */

#include "encoder.h"

enum { RECORD_MAGIC = 0x52D7, HEADER_BYTES = 24, ENTRY_HEADER_BYTES = 24, BATCH_END_BYTES = 64 };
enum { ENTRY = 1, HARD_STATE = 2, SNAPSHOT = 3, BATCH_END = 4, SNAPSHOT_TAKEN = 6 };

#define ABSENT UINT32_MAX

static PyObject *encode_snapshot, *invariant_violation, *encoded_batch_type, *log_end_type;
static PyObject *name_salt, *name_offset, *name_number, *name_chain, *name_flags;

/* The batch while it grows, and the state of the log behind it. */

typedef struct {
    PyObject *content; /* a bytearray, longer than what is used */
    size_t used;
    uint64_t salt, offset, number, chain, flags;
    uint64_t term, index; /* the end of the log */
    Py_ssize_t entries;
    PyObject *hard_state, *snapshot; /* borrowed from the batches, or NULL */
    PyObject *vouched;               /* a list, or NULL */
} Batch;

static unsigned char *reserve(Batch *batch, size_t length)
{
    size_t capacity = (size_t)PyByteArray_GET_SIZE(batch->content), needed = batch->used + length;
    if (needed > capacity && PyByteArray_Resize(batch->content, (Py_ssize_t)(needed + needed / 2)) < 0)
        return NULL;
    return (unsigned char *)PyByteArray_AS_STRING(batch->content) + batch->used;
}

/* Finish the record whose body of `length` bytes stands behind room for its header at `record`. */

static int seal_record(Batch *batch, unsigned char *record, int kind, size_t length)
{
    uint32_t start = (uint32_t)(batch->salt ^ (batch->offset + batch->used)), crc = start;
    uint32_t body_bytes = (uint32_t)length;
    uint16_t magic = RECORD_MAGIC;
    size_t padding = -length & 7;
    if (crc_of(&crc, record + HEADER_BYTES, length) < 0)
        return -1;
    memcpy(record, &magic, 2);
    record[2] = (unsigned char)kind;
    record[3] = (unsigned char)batch->flags;
    memcpy(record + 4, &body_bytes, 4);
    memcpy(record + 8, &batch->number, 8);
    memcpy(record + 16, &crc, 4);
    crc = crc_of_short(start, record, HEADER_BYTES - 4);
    memcpy(record + 20, &crc, 4);
    memset(record + HEADER_BYTES + length, 0, padding);
    batch->used += HEADER_BYTES + length + padding;
    return 0;
}

/* The payload of an entry; NULL when it is absent. */

static int payload_of(PyObject *content, const char **payload, size_t *length)
{
    *payload = NULL;
    *length = 0;
    if (content == Py_None)
        return 0;
    if (!PyBytes_Check(content)) {
        PyErr_Format(PyExc_TypeError, "a payload must be bytes or None, not %.100s", Py_TYPE(content)->tp_name);
        return -1;
    }
    *payload = PyBytes_AS_STRING(content);
    *length = (size_t)PyBytes_GET_SIZE(content);
    if (*length < ABSENT - ENTRY_HEADER_BYTES)
        return 0;
    PyErr_SetString(PyExc_OverflowError, "a payload must be shorter than 4 GiB");
    return -1;
}

static int put_entry(Batch *batch, PyObject *entry)
{
    uint64_t term, index, kind;
    const char *payload;
    size_t length;
    if (check_tuple(entry, 4, "an entry") < 0 || to_u64(PyTuple_GET_ITEM(entry, 0), &term) < 0 ||
        to_u64(PyTuple_GET_ITEM(entry, 1), &index) < 0 || to_u64(PyTuple_GET_ITEM(entry, 3), &kind) < 0 ||
        payload_of(PyTuple_GET_ITEM(entry, 2), &payload, &length) < 0)
        return -1;
    if (index != batch->index + 1) {
        PyErr_Format(invariant_violation, "entry %llu stands where index %llu belongs", (unsigned long long)index,
                     (unsigned long long)batch->index + 1);
        return -1;
    }
    unsigned char *record = reserve(batch, HEADER_BYTES + ENTRY_HEADER_BYTES + length + 7);
    if (record == NULL)
        return -1;
    unsigned char *body = record + HEADER_BYTES;
    uint32_t payload_bytes = payload == NULL ? ABSENT : (uint32_t)length, packed_kind = (uint32_t)kind & 0xFF;
    memcpy(body, &term, 8);
    memcpy(body + 8, &index, 8);
    memcpy(body + 16, &payload_bytes, 4);
    memcpy(body + 20, &packed_kind, 4);
    if (length > 0)
        memcpy(body + ENTRY_HEADER_BYTES, payload, length);
    batch->term = term;
    batch->index = index;
    batch->entries++;
    return seal_record(batch, record, ENTRY, ENTRY_HEADER_BYTES + length);
}

/* The first entry may stand in place of one that is there already; every other one follows the one before it. */

static int go_back_to(Batch *batch, PyObject *entry)
{
    uint64_t first;
    if (check_tuple(entry, 4, "an entry") < 0 || to_u64(PyTuple_GET_ITEM(entry, 1), &first) < 0)
        return -1;
    if (first == 0 || first > batch->index + 1) {
        PyErr_Format(invariant_violation, "entry %llu would leave a gap behind index %llu", (unsigned long long)first,
                     (unsigned long long)batch->index);
        return -1;
    }
    batch->index = first - 1;
    return 0;
}

static int put_entries(Batch *batch, PyObject *entries)
{
    PyObject *fast = PySequence_Fast(entries, "entries must be a sequence");
    if (fast == NULL)
        return -1;
    int failed = 0;
    /* Another thread may get its turn during a long CRC, so the length is asked for each time. */
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast) && !failed; i++) {
        PyObject *entry = Py_NewRef(PySequence_Fast_GET_ITEM(fast, i));
        failed = (i == 0 && go_back_to(batch, entry) < 0) || put_entry(batch, entry) < 0;
        Py_DECREF(entry);
    }
    Py_DECREF(fast);
    return failed ? -1 : 0;
}

/* A snapshot is rare; its body comes from the Python function that knows its layout. */

static int put_snapshot(Batch *batch, int kind, PyObject *snapshot)
{
    char *body;
    Py_ssize_t length;
    PyObject *encoded = PyObject_CallOneArg(encode_snapshot, snapshot);
    if (encoded == NULL)
        return -1;
    int failed = PyBytes_AsStringAndSize(encoded, &body, &length) < 0;
    unsigned char *record = failed ? NULL : reserve(batch, HEADER_BYTES + (size_t)length + 7);
    failed = record == NULL;
    if (!failed) {
        memcpy(record + HEADER_BYTES, body, (size_t)length);
        failed = seal_record(batch, record, kind, (size_t)length) < 0;
    }
    Py_DECREF(encoded);
    if (!failed && batch->vouched == NULL)
        batch->vouched = PyList_New(0);
    return failed || batch->vouched == NULL || PyList_Append(batch->vouched, snapshot) < 0 ? -1 : 0;
}

static int put_wal_batch(Batch *batch, PyObject *wal_batch)
{
    if (check_tuple(wal_batch, 4, "a batch") < 0)
        return -1;
    PyObject *hard_state = PyTuple_GET_ITEM(wal_batch, 0), *entries = PyTuple_GET_ITEM(wal_batch, 1);
    PyObject *taken_over = PyTuple_GET_ITEM(wal_batch, 2), *taken = PyTuple_GET_ITEM(wal_batch, 3);
    if (taken_over != Py_None) {
        if (check_tuple(taken_over, 4, "a snapshot") < 0 ||
            to_u64(PyTuple_GET_ITEM(taken_over, 0), &batch->index) < 0 ||
            to_u64(PyTuple_GET_ITEM(taken_over, 1), &batch->term) < 0 ||
            put_snapshot(batch, SNAPSHOT, taken_over) < 0)
            return -1;
        batch->snapshot = taken_over;
    }
    if (put_entries(batch, entries) < 0)
        return -1;
    if (taken != Py_None) {
        uint64_t index;
        if (check_tuple(taken, 4, "a snapshot") < 0 || to_u64(PyTuple_GET_ITEM(taken, 0), &index) < 0)
            return -1;
        if (index > batch->index) {
            PyErr_Format(invariant_violation, "snapshot %llu lies behind the last index %llu",
                         (unsigned long long)index, (unsigned long long)batch->index);
            return -1;
        }
        if (put_snapshot(batch, SNAPSHOT_TAKEN, taken) < 0)
            return -1;
    }
    if (hard_state != Py_None)
        batch->hard_state = hard_state;
    return 0;
}

static int put_hard_state(Batch *batch)
{
    uint64_t packed[3];
    if (check_tuple(batch->hard_state, 3, "a hard state") < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        if (to_u64(PyTuple_GET_ITEM(batch->hard_state, i), &packed[i]) < 0)
            return -1;
    if (packed[2] > batch->index) {
        PyErr_Format(invariant_violation, "commit index %llu lies behind the last index %llu",
                     (unsigned long long)packed[2], (unsigned long long)batch->index);
        return -1;
    }
    unsigned char *record = reserve(batch, HEADER_BYTES + sizeof packed);
    if (record == NULL)
        return -1;
    memcpy(record + HEADER_BYTES, packed, sizeof packed);
    return seal_record(batch, record, HARD_STATE, sizeof packed);
}

static int put_batch_end(Batch *batch, Py_ssize_t records)
{
    unsigned char *record = reserve(batch, BATCH_END_BYTES);
    if (record == NULL)
        return -1;
    uint32_t count = (uint32_t)records, crc = (uint32_t)(batch->salt ^ batch->offset);
    uint64_t bytes = batch->used + BATCH_END_BYTES;
    if (crc_of(&crc, record - batch->used, batch->used) < 0)
        return -1;
    unsigned char *body = record + HEADER_BYTES;
    memcpy(body, &count, 4);
    memcpy(body + 4, &crc, 4);
    memcpy(body + 8, &bytes, 8);
    memcpy(body + 16, &batch->term, 8);
    memcpy(body + 24, &batch->index, 8);
    uint32_t chain = crc_of_short((uint32_t)batch->chain, body, 32);
    memcpy(body + 32, &chain, 4);
    memset(body + 36, 0, 4);
    batch->chain = chain;
    return seal_record(batch, record, BATCH_END, BATCH_END_BYTES - HEADER_BYTES);
}

static PyObject *named_tuple(PyObject *type, Py_ssize_t length)
{
    return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, length);
}

static PyObject *encoded_batch(Batch *batch)
{
    PyObject *end = named_tuple(log_end_type, 2), *found = named_tuple(encoded_batch_type, 7);
    PyObject *items[] = {
        Py_NewRef(batch->content),
        PyLong_FromUnsignedLongLong(batch->chain),
        end,
        PyLong_FromSsize_t(batch->entries),
        Py_NewRef(batch->hard_state ? batch->hard_state : Py_None),
        Py_NewRef(batch->snapshot ? batch->snapshot : Py_None),
        batch->vouched ? PyList_AsTuple(batch->vouched) : PyTuple_New(0),
    };
    if (end != NULL) {
        PyTuple_SET_ITEM(end, 0, PyLong_FromUnsignedLongLong(batch->term));
        PyTuple_SET_ITEM(end, 1, PyLong_FromUnsignedLongLong(batch->index));
    }
    int failed = found == NULL || PyErr_Occurred() != NULL;
    for (int i = 0; i < 7; i++) {
        if (found != NULL)
            PyTuple_SET_ITEM(found, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    if (failed)
        Py_CLEAR(found);
    return found;
}

static int attribute(PyObject *object, PyObject *name, uint64_t *number)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    int failed = to_u64(value, number);
    Py_DECREF(value);
    return failed;
}

static int read_place(Batch *batch, PyObject *place)
{
    if (attribute(place, name_salt, &batch->salt) < 0 || attribute(place, name_offset, &batch->offset) < 0 ||
        attribute(place, name_number, &batch->number) < 0 || attribute(place, name_chain, &batch->chain) < 0 ||
        attribute(place, name_flags, &batch->flags) < 0)
        return -1;
    return 0;
}

PyObject *encode_batch(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Batch batch = {0};
    PyObject *found = NULL;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "encode_batch takes batches, a place and the end of the log");
        return NULL;
    }
    PyObject *place = arguments[1], *end = arguments[2];
    if (read_place(&batch, place) < 0 || check_tuple(end, 2, "the end of a log") < 0 ||
        to_u64(PyTuple_GET_ITEM(end, 0), &batch.term) < 0 || to_u64(PyTuple_GET_ITEM(end, 1), &batch.index) < 0)
        return NULL;
    PyObject *batches = PySequence_Tuple(arguments[0]); /* Keeps alive what the state of the log is borrowed from. */
    if (batches == NULL)
        return NULL;
    batch.content = PyByteArray_FromStringAndSize(NULL, 512);
    int failed = batch.content == NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(batches) && !failed; i++)
        failed = put_wal_batch(&batch, PyTuple_GET_ITEM(batches, i)) < 0;
    if (!failed && batch.hard_state != NULL)
        failed = put_hard_state(&batch) < 0;
    Py_ssize_t records = batch.entries + (batch.hard_state != NULL);
    if (!failed && batch.vouched != NULL)
        records += PyList_GET_SIZE(batch.vouched);
    if (!failed && records == 0)
        found = Py_NewRef(Py_None);
    else if (!failed && put_batch_end(&batch, records) == 0 &&
             PyByteArray_Resize(batch.content, (Py_ssize_t)batch.used) == 0)
        found = encoded_batch(&batch);
    Py_XDECREF(batch.content);
    Py_XDECREF(batch.vouched);
    Py_DECREF(batches);
    return found;
}

int prepare_batch(void)
{
    name_salt = PyUnicode_InternFromString("salt");
    name_offset = PyUnicode_InternFromString("offset");
    name_number = PyUnicode_InternFromString("number");
    name_chain = PyUnicode_InternFromString("chain");
    name_flags = PyUnicode_InternFromString("flags");
    if (PyErr_Occurred() || !(invariant_violation = taken_from("raftactors.errors", "InvariantViolation")) ||
        !(encode_snapshot = taken_from("raftactors.storage.record", "encode_snapshot")) ||
        !(encoded_batch_type = taken_from("raftactors.storage.record", "EncodedBatch")) ||
        !(log_end_type = taken_from("raftactors.storage.record", "LogEnd")))
        return -1;
    return 0;
}
