"""How long to wait for an answer: smoothed round trip and its deviation, in the shape of RFC 6298."""

from __future__ import annotations

from dataclasses import dataclass

SMOOTHING = 1 / 8  # RFC 6298, section 2.3, alpha
DEVIATION_SMOOTHING = 1 / 4  # the same, beta
DEVIATIONS = 4  # the same, K
GRANULARITY = 0.1
"""Seconds that are waited beyond the smoothed round trip at least (RFC 6298, section 2.3, G). Of a peer that always
answers in the same time the deviation vanishes, and then the smallest delay on either side would be a timeout."""
FLOOR = 2.0  # seconds; geth's p2p/msgrate starts from the same minimum round trip
CAP = 30.0  # seconds; geth drops a connection that is silent for so long
BACKOFF = 2.0  # RFC 6298, section 5.5
MOST_BACKOFF = 1024.0  # ten doublings: from a millisecond beyond the cap, which `timeout` applies


@dataclass(slots=True)
class RoundTrip:
    """Timeout estimator of one peer and one kind of request. All times in seconds."""

    floor: float = FLOOR
    smoothed: float | None = None
    deviation: float = 0.0
    backoff: float = 1.0

    def observe(self, sample: float) -> None:
        """An answer came after so long."""
        if self.smoothed is None:
            self.smoothed, self.deviation = sample, sample / 2
        else:
            self.deviation += DEVIATION_SMOOTHING * (abs(sample - self.smoothed) - self.deviation)
            self.smoothed += SMOOTHING * (sample - self.smoothed)
        self.backoff = 1.0

    def timed_out(self) -> None:
        """No answer came in time. The estimator must learn from this too, or a slower peer times out for ever."""
        self.backoff = min(self.backoff * BACKOFF, MOST_BACKOFF)

    def timeout(self) -> float:
        """How long to wait for the next answer."""
        if self.smoothed is None:
            return CAP / 2 if self.backoff == 1.0 else CAP
        usual = self.smoothed + max(GRANULARITY, DEVIATIONS * self.deviation)
        return min(max(usual, self.floor) * self.backoff, CAP)
