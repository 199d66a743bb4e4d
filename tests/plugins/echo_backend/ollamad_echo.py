"""A backend by a stranger: a model of architecture "echo" says its prompt back, byte by byte."""

from ollamad.plugin import Backend, Context, Device, Memory, Model, ModelDescription, Sampler, hookimpl

END = 256


class EchoSampler(Sampler):
    def accept(self, tokens):
        pass


class EchoContext(Context):
    """The token after position p is the prompt's token p - (length of the prompt)."""

    can_share_prefix = can_cut = can_shift = False

    def __init__(self, ctx_len, slots, n_batch):
        self.n_ctx, self.n_batch, self.n_sequences = ctx_len * slots, n_batch, slots
        self.seen = [[] for _ in range(slots)]
        self.prompts = [0] * slots
        self.rows = {}

    def decode(self, batch):
        self.rows = {}
        for row, (token, sequence) in enumerate(zip(batch.tokens, batch.sequence_ids, strict=True)):
            self.seen[sequence].append(token)
            if batch.outputs[row]:
                self.prompts[sequence] = self.prompts[sequence] or len(self.seen[sequence])
                self.rows[row] = sequence

    def sampler(self, parameters, grammar=None):
        return EchoSampler()

    def sample(self, picks):
        return [self.following(self.rows[row]) for _, row in picks]

    def following(self, sequence):
        seen, prompt = self.seen[sequence], self.prompts[sequence]
        return seen[len(seen) - prompt] if len(seen) < 2 * prompt else END

    def remove(self, sequence_id, start, end):
        if start == 0:
            self.seen[sequence_id], self.prompts[sequence_id] = [], 0
        return start == 0

    def embed(self, sequences):
        return [[float(len(one)), 1.0] for one in sequences]

    def memory(self):
        return (Memory("cpu", "cpu", 0, 1, 1),)


class EchoModel(Model):
    description = ModelDescription("echo", 257, 512, 2, -1, END, False, False, None)

    def tokenize(self, text, *, add_special, parse_special):
        return list(text.encode())

    def piece(self, token, *, special=False):
        return b"" if token == END else bytes([token])

    def detokenize(self, tokens, *, remove_special=False, unparse_special=True):
        return bytes(token for token in tokens if token != END).decode(errors="replace")

    def is_end(self, token):
        return token == END

    def context(self, kind, *, ctx_len, slots, spec):
        return EchoContext(ctx_len, slots, spec.n_batch)

    def memory(self):
        return (Memory("cpu", "cpu", 1, 0, 0),)


class EchoBackend(Backend):
    name = "echo"
    architectures = frozenset({"echo"})

    def devices(self):
        return [Device("cpu", "cpu", "the echo of a processor", 1 << 30, 1 << 30)]

    def load(self, spec, files, progress):
        progress(1.0)
        return EchoModel()


@hookimpl
def ollamad_register_backends(register):
    register(EchoBackend())
