"""The largest numbers of configs and flags: what Python holds and the computation does not is refused by name."""

# TensorFlow counts in 32 bits at one place or another.
MAX_COUNT = 2**31 - 1
# Images at once, and the height and width of one.
MAX_BATCH = 2**20
MAX_SIDE = 2**16
# Layers of a network, and channels of a layer.
MAX_LAYERS = 2**10
MAX_WIDTH = 2**16
# Draws of an image: importance samples, or rounds of completion; see `noise.stream`.
MAX_DRAWS = 2**20
# Rounds of completion that a request may choose: a server's time is others' too.
MAX_CHOSEN_ROUNDS = 64
# Processes, devices or parts of a batch that work side by side.
MAX_PARALLEL = 2**10
# Floating-point numbers: far within float32, whose squares and sums of many stay finite and above 0.
MIN_FLOAT, MAX_FLOAT = 1e-15, 1e15
MAX_NATS = 1e9
# Log scales of distributions of values on [-1, 1]. The lower end is the released program's. Ours is the upper: wider
# than the whole range, a distribution only puts more on its two ends.
MIN_LOG_SCALE, MAX_LOG_SCALE = -7.0, 1.0
# The largest float32 below 1.
BELOW_ONE = 1 - 2**-24
# Keras' dtype policies that a model may have.
DTYPES = ("float32", "mixed_bfloat16", "float64")
