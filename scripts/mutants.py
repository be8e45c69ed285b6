"""Lists of deliberate breakages, as scripts/mutants.txt and scripts/cluster-mutants.txt have them. Each is

    = name
    > what to run, for scripts/mutate-cluster
    ! what is to be said of it, for the same
    file
    - the text as it is, which must be there once
    + the text instead

Lines of - and + are taken without their first two characters; + may be missing.
"""


class Wrong(Exception):
    """The list does not fit the sources, or they fail as they are."""


class Mutant:
    def __init__(self, name):
        self.name, self.file, self.before, self.after = name, None, [], []
        self.run, self.says = [], ""

    def applied(self, path):
        """The text of the file at `path`, broken."""
        text, before = path.read_text(), "\n".join(self.before)
        if text.count(before) != 1:
            raise Wrong(
                f"“{self.name}”: its text is {text.count(before)} times in {path.name}, not once")
        return text.replace(before, "\n".join(self.after))


def read_list(path):
    mutants = []
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        kind, rest = line[:2], line[2:]
        if kind == "= ":
            mutants.append(Mutant(rest))
        elif kind == "> ":
            mutants[-1].run = rest.split()
        elif kind == "! ":
            mutants[-1].says = rest
        elif kind == "- ":
            mutants[-1].before.append(rest)
        elif kind == "+ ":
            mutants[-1].after.append(rest)
        else:
            mutants[-1].file = line
    return mutants
