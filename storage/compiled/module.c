/* The module raftactors.storage._encoder, and what both encoders take Python's values apart with. */

#include "encoder.h"

int to_u64(PyObject *value, uint64_t *number)
{
    *number = PyLong_AsUnsignedLongLong(value);
    return *number == UINT64_MAX && PyErr_Occurred() ? -1 : 0;
}

int check_tuple(PyObject *object, Py_ssize_t length, const char *what)
{
    if (PyTuple_Check(object) && PyTuple_GET_SIZE(object) == length)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s must be a tuple of %zd, not %.100s", what, length, Py_TYPE(object)->tp_name);
    return -1;
}

PyObject *taken_from(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL)
        return NULL;
    PyObject *found = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return found;
}

static PyMethodDef methods[] = {
    {"encode_batch", (PyCFunction)(void (*)(void))encode_batch, METH_FASTCALL, NULL},
    {"encode_marks", (PyCFunction)(void (*)(void))encode_marks, METH_FASTCALL | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_encoder", "See storage/encoding.py.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__encoder(void)
{
    return prepare_crc() < 0 || prepare_batch() < 0 ? NULL : PyModule_Create(&definition);
}
