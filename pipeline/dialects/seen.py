"""Usage → whether the endpoint saw the media that were sent.

Some gateways silently drop a media part; the answer is a normal 200 with fewer prompt tokens. This is the
rule by which that shows. It never says `no` where the usage leaves room for doubt.
"""

from __future__ import annotations

from pipeline.records import Request, Seen, Usage


def media_seen(request: Request, usage: Usage | None) -> tuple[Seen, ...]:
    """One answer per ``request.media``, in order.

    | the usage                                                            | says      |
    | -------------------------------------------------------------------- | --------- |
    | missing, contradictory, or without a prompt token                    | `unknown` |
    | counts the modality                                                  | `yes`     |
    | … audio, and a video was sent too: it may be the video's soundtrack  | `unknown` |
    | does not count it, but has an `unattributed` input                   | `unknown` |
    | … or an `image+video` one, and it is an image or a video             | `unknown` |
    | does not count it, and everything else is accounted for              | `no`      |

    A modality is seen as a whole: of two images, one dropped, usage tells nothing. A video of which only
    the soundtrack was heard is counted as audio, so the video itself is `no`.
    """
    if not request.media:
        return ()
    unknown: Seen = "unknown"
    if usage is None or usage.contradiction is not None:
        return (unknown,) * len(request.media)
    counted = {count.modality for count in usage.counts if count.direction == "input"}
    sent = {media.modality for media in request.media}
    answers: dict[str, Seen] = {}
    for modality in sent:
        if modality in counted:
            answers[modality] = unknown if modality == "audio" and "video" in sent else "yes"
        elif (
            not counted
            or "unattributed" in counted
            or ("image+video" in counted and modality in ("image", "video"))
        ):
            answers[modality] = unknown
        else:
            answers[modality] = "no"
    return tuple(answers[media.modality] for media in request.media)
