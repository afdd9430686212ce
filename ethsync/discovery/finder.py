"""All that finds nodes over one UDP port: discv5 and discv4, each with its table. Pure: `service` does the I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethsync.discovery.lane import Lane
    from ethsync.discovery.node import Datagram, Endpoint, Node
    from ethsync.discovery.protocol import AddressSeen
    from ethsync.wire.enr import NodeRecord


class Finder:
    """The protocols by name ("discv4", "discv5").

    A datagram belongs to the first one that takes it: discv4 knows its own by their hash, so it must come first.
    """

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self.lanes = lanes
        self.counts: Counter[str] = Counter()
        """Packets received by protocol, and sent."""

    def receive(self, data: bytes, source: Endpoint, now: float) -> None:
        """Take one datagram. Never raises, whatever the bytes are."""
        for name, lane in self.lanes.items():
            if lane.receive(data, source, now):
                self.counts[f"{name} received"] += 1
                return
        self.counts["of no protocol"] += 1

    def advance(self, now: float) -> None:
        """Let the time pass."""
        for lane in self.lanes.values():
            lane.advance(now)

    @property
    def deadline(self) -> float:
        """When `advance` should be called next; infinity if there is nothing to do."""
        return min((lane.deadline for lane in self.lanes.values()), default=float("inf"))

    def want(self, wanted: bool, now: float) -> None:
        """Say whether more nodes are wanted; without that the tables are only kept fresh."""
        for lane in self.lanes.values():
            lane.want(wanted, now)

    def set_record(self, record: NodeRecord) -> None:
        """Our own record changed."""
        for lane in self.lanes.values():
            lane.protocol.set_record(record)

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        packets: list[Datagram] = []
        for name, lane in self.lanes.items():
            of_lane = lane.packets()
            self.counts[f"{name} sent"] += len(of_lane)
            packets += of_lane
        self.counts["sent"] += len(packets)
        return packets

    def discovered(self) -> list[tuple[str, Node]]:
        """Nodes found and the protocol that found them; each once for every version of its record."""
        found = [(name, node) for name, lane in self.lanes.items() for node in lane.findings.found]
        for lane in self.lanes.values():
            lane.findings.found.clear()
        return found

    def address_reports(self) -> list[AddressSeen]:
        """What others said of our address, once."""
        reports = [report for lane in self.lanes.values() for report in lane.reports]
        for lane in self.lanes.values():
            lane.reports.clear()
        return reports

    def statistics(self) -> dict[str, int]:
        """What there is to know, by name: packets, and for each protocol known and confirmed nodes, lookups, queries,
        requests without answer by reason."""
        present = {
            f"{name} {what}": number
            for name, lane in self.lanes.items()
            for what, number in (("known", len(lane.table)), ("confirmed", lane.table.confirmed), *lane.counts.items())
        }
        return {**self.counts, **present}
