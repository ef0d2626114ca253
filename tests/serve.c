/* Runs one signature of a SavedModel by TensorFlow's C API, in a process without Python.

   serve SAVED_MODEL BATCH OUTPUT [NAME i|f VALUE * BATCH]...

   OUTPUT and NAME are tensors as the SignatureDef names them ("sample_seed:0"), each input a vector of BATCH int64 (i)
   or float (f) values. Writes the bytes of the output to standard output. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

#define MAX_INPUTS 8

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* The output of an operation, by a name such as "operation:0". */
static TF_Output find(TF_Graph *graph, const char *tensor) {
  char name[256];
  TF_Output found;
  const char *colon = strrchr(tensor, ':');
  if (!colon || colon - tensor >= (long)sizeof name) fail(tensor, "not the name of a tensor");
  memcpy(name, tensor, colon - tensor);
  name[colon - tensor] = 0;
  found.oper = TF_GraphOperationByName(graph, name);
  found.index = atoi(colon + 1);
  if (!found.oper) fail(tensor, "not in the graph");
  return found;
}

static TF_Tensor *vector(const char *type, char **values, int64_t batch) {
  int is_float = type[0] == 'f';
  TF_Tensor *tensor =
      TF_AllocateTensor(is_float ? TF_FLOAT : TF_INT64, &batch, 1, batch * (is_float ? sizeof(float) : sizeof(int64_t)));
  for (int64_t i = 0; i < batch; ++i) {
    if (is_float)
      ((float *)TF_TensorData(tensor))[i] = strtof(values[i], NULL);
    else
      ((int64_t *)TF_TensorData(tensor))[i] = strtoll(values[i], NULL, 10);
  }
  return tensor;
}

int main(int argc, char **argv) {
  if (argc < 4) fail(argv[0], "SAVED_MODEL BATCH OUTPUT [NAME i|f VALUE * BATCH]...");
  const char *tags[] = {"serve"};
  int64_t batch = atoll(argv[2]);
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, "TF_LoadSessionFromSavedModel");

  TF_Output inputs[MAX_INPUTS], output = find(graph, argv[3]);
  TF_Tensor *values[MAX_INPUTS], *result = NULL;
  int count = 0;
  for (int at = 4; at + 1 + batch < argc && count < MAX_INPUTS; at += 2 + batch) {
    inputs[count] = find(graph, argv[at]);
    values[count++] = vector(argv[at + 1], argv + at + 2, batch);
  }
  TF_SessionRun(session, NULL, inputs, values, count, &output, &result, 1, NULL, 0, NULL, status);
  check(status, "TF_SessionRun");
  fwrite(TF_TensorData(result), 1, TF_TensorByteSize(result), stdout);

  TF_DeleteTensor(result);
  for (int i = 0; i < count; ++i) TF_DeleteTensor(values[i]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
