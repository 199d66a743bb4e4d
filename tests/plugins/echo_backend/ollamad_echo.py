"""A backend by a stranger: a model of architecture "echo" says its prompt back, byte by byte."""

from ollamad import plugin

END = 256


class EchoSampler(plugin.Sampler):
    def accept(self, tokens):
        pass


class EchoContext(plugin.Context):
    """What repeats the beginning is the answer, all before it the prompt; after a whole repetition comes the end."""

    can_share_prefix = can_cut = can_shift = False

    def __init__(self, ctx_len, slots, n_batch):
        self.n_ctx, self.n_batch, self.n_sequences = ctx_len * slots, n_batch, slots
        self.seen = [[] for _ in range(slots)]
        self.rows = {}

    def decode(self, batch):
        if sum(map(len, self.seen)) + len(batch.tokens) > self.n_ctx:
            raise plugin.KVCacheFull
        self.rows = {}
        for row, (token, sequence) in enumerate(zip(batch.tokens, batch.sequence_ids, strict=True)):
            self.seen[sequence].append(token)
            if batch.outputs[row]:
                self.rows[row] = following(self.seen[sequence])

    def sampler(self, parameters, grammar=None):
        return EchoSampler()

    def sample(self, picks):
        return [self.rows[row] for _, row in picks]

    def remove(self, sequence_id, start, end):
        if start == 0:
            self.seen[sequence_id] = []
        return start == 0

    def embed(self, sequences):
        return [[float(len(one)), 1.0] for one in sequences]

    def memory(self):
        return (plugin.Memory("cpu", "cpu", 0, 1, 1),)


def following(seen):
    prompt = next(n for n in range(1, len(seen) + 1) if seen[n:] == seen[: len(seen) - n])
    return seen[len(seen) - prompt] if len(seen) < 2 * prompt else END


class EchoModel(plugin.Model):
    description = plugin.ModelDescription("echo", 257, 512, 2, -1, END, False, False, None)

    def tokenize(self, text, *, add_special, parse_special):
        return list(text.encode())

    def piece(self, token, *, special=False):
        if token == END:
            return b"<end>" if special else b""
        return bytes([token])

    def detokenize(self, tokens, *, remove_special=False, unparse_special=True):
        return bytes(token for token in tokens if token != END).decode(errors="replace")

    def is_end(self, token):
        return token == END

    def context(self, kind, *, ctx_len, slots, spec):
        return EchoContext(ctx_len, slots, spec.n_batch)

    def memory(self):
        return (plugin.Memory("cpu", "cpu", 1, 0, 0),)


class EchoBackend(plugin.Backend):
    name = "echo"
    architectures = frozenset({"echo"})

    def devices(self):
        return [plugin.Device("cpu", "cpu", "the echo of a processor", 1 << 30, 1 << 30)]

    def load(self, spec, files, progress):
        if any(b"echo" not in path.read_bytes()[:4096] for path in files.values()):
            raise plugin.ModelRejected("not an echo")
        if not progress(1.0):
            raise plugin.BackendError("given up")
        return EchoModel()


@plugin.hookimpl
def ollamad_register_backends(register):
    register(EchoBackend())
