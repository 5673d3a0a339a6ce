"""Was a run really accelerated? The shim's own log says so; a figure without that proof is not compared."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

LINE = re.compile(r"kvoshim\[(?P<pid>\d+) (?P<command>[^\]]*)\] (?P<verb>accelerated|plain) (?P<rest>.*)")
FIELD = re.compile(r"(\w+)=(\S*)")


@dataclass
class Proof:
    """What the log says about one socket path: ends of connections, by side."""

    client: int = 0
    server: int = 0
    plain: Counter = field(default_factory=Counter)

    def holds(self, connections: int) -> bool:
        """Whether at least that many connections were accelerated, seen from both sides."""
        return min(self.client, self.server) >= connections

    def summary(self) -> dict[str, object]:
        """For the JSON: accelerated ends by side, plain ends by reason."""
        return {"client": self.client, "server": self.server, "plain": dict(self.plain)}

    def words(self) -> str:
        """For a person: how many connections, and why others were not."""
        text = str(min(self.client, self.server))
        if self.client != self.server:
            text = f"{self.client} client, {self.server} server"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.plain.most_common(3))
        return f"{text} (plain: {reasons})" if reasons else text


def read_log(log: Path, path: str) -> Proof:
    """Counts the log's lines about `path`. A log that is not there proves nothing, and is no error."""
    proof = Proof()
    text = log.read_text(errors="replace") if log.exists() else ""
    for line in text.splitlines():
        match = LINE.search(line)
        if not match:
            continue
        fields = dict(FIELD.findall(match["rest"]))
        if fields.get("path") != path:
            continue
        if match["verb"] == "plain":
            proof.plain[fields.get("reason", "no reason given")] += 1
        elif fields.get("side") == "client":
            proof.client += 1
        elif fields.get("side") == "server":
            proof.server += 1
    return proof
