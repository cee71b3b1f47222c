"""The one place where the text of a message decides: why a gateway could not use the media.

A gateway of the new-api family downloads media itself and answers 500 with `convert_request_failed` or
`count_token_…` whatever went wrong there; only the message tells a picture that is gone from a host that
was slow. Patterns from its public source (service/file_service.go, file_decoder.go, download.go,
relay/channel/gemini/relay-gemini.go, several versions) and from the Go standard library it wraps.
"""

from __future__ import annotations

import re
from typing import Literal

MediaCause = Literal["gone", "passing", "unknown"]


def is_about_conversion(code: str) -> bool:
    """Codes of a 500 that usually mean the media."""
    return code == "convert_request_failed" or code.startswith("count_token")


def media_cause(message: str) -> MediaCause:
    """`gone`: this media will not be read, ever; `passing`: its host failed just now.

    A status of the media's host decides first. URLs are left out: their own words (a picture called
    timeout.jpg) say nothing.
    """
    text = _URL.sub(" ", message.lower())
    status = _STATUS.search(text)
    if status:
        number = int(status.group(1))
        return "passing" if number >= 500 or number in (408, 425, 429) else "gone"
    if _PASSING.search(text):
        return "passing"
    return "gone" if _GONE.search(text) else "unknown"


_URL = re.compile(r"https?://[^\s\"'<>]+|data:[^\s\"'<>]+")
_STATUS = re.compile(r"(?:status(?:[ _]code)?|http|状态码|状态)\D{0,8}([1-5][0-9]{2})(?![0-9])")
_PASSING = re.compile(
    r"time[d ]?[- ]?out|deadline exceeded|no such host|server misbehaving|temporary failure|dial tcp"
    r"|lookup |connection (?:reset|refused|closed)|broken pipe|\beof\b|tls handshake"
    r"|network is unreach|no route to host|stream error|too many requests"
    r"|超时|连接(?:失败|被?重置|被?拒绝|关闭|断开)|无法解析|解析域名|网络(?:错误|异常)|稍后"
)
_GONE = re.compile(
    r"mime|not supported|unsupported|unknown (?:file )?(?:type|format)"
    r"|invalid (?:image|audio|video|file|base64|url)|exceed|too (?:large|big|many)|maximum allowed"
    r"|size limit|decode|base64|corrupt|malformed|empty (?:file|image)|not found|forbidden"
    r"|access denied|private ip|request reject|x509|certificate|stopped after \d+ redirects"
    r"|不支持|格式|类型|超过|过大|太大|大小|解码|损坏|不存在|禁止|拒绝|无效|证书"
)
