"""What an invented follower looks like: names, phones, addresses, tags. No real person's data.

Every oddity comes round in a fixed rhythm of the number `turn`, so that a hundred followers show nearly all.
"""

import unicodedata

_FAMILY = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Võ", "Đặng", "Bùi", "Đỗ", "Ngô", "Dương", "Lý")
_MIDDLE = ("Văn", "Thị", "Ngọc", "Đức", "Thuỳ", "Minh", "Hữu", "Thanh", "Quốc", "Kim", "Xuân")
_GIVEN = (
    "Ánh",
    "Bảo",
    "Châu",
    "Dũng",
    "Giang",
    "Hạnh",
    "Hưởng",
    "Khánh",
    "Lễ",
    "Mỹ",
    "Phượng",
    "Quỳnh",
    "Yến",
)
_EMOJI = ("🌸", "👩‍👧", "🇻🇳", "⭐️", "🧋")
_STREETS = ("Hẻm Mẫu", "Đường Thử Nghiệm", "Ngõ Giả Định", "Phố Ví Dụ")
_WARDS = ("Phường Mẫu Một", "Phường Mẫu Hai", "Xã Giả Lập")
_DISTRICTS = ("Quận Thử", "Huyện Ví Dụ", "Thành phố Thủ Nghiệm")
_CITIES = ("Hà Nội", "Đà Nẵng", "Cần Thơ", "Thừa Thiên Huế")
_TAGS = ("khách mới", "VIP", "đã mua", "cần gọi lại", "Huế")
_MOBILE = ("32", "39", "56", "59", "70", "79", "83", "86", "90", "91", "97")
_OLD_MOBILE = ("0120", "0121", "0123", "0124", "0129", "0162", "0169", "0186", "0188", "0199")


def display_name(turn: int, dice: int) -> str:
    """A Vietnamese name: each seventh decomposed (NFD), each ninth with an emoji, now and then empty."""
    if turn % 53 == 20:
        return ""
    name = f"{_pick(_FAMILY, dice)} {_pick(_MIDDLE, dice >> 8)} {_pick(_GIVEN, dice >> 16)}"
    if turn % 9 == 4:
        name = f"{name} {_pick(_EMOJI, dice >> 24)}"
    return unicodedata.normalize("NFD", name) if turn % 7 == 3 else name


def phone(turn: int, dice: int) -> str:
    """A number in one of the twelve shapes that providers are seen to hold, or none (PROVIDERS 5).

    The subscriber part always begins with 000, so the numbers can be told from real ones.
    """
    tail = f"000{dice % 10_000:04d}"
    national = _pick(_MOBILE, dice >> 16) + tail
    match turn % 12:
        case 0:
            return "0" + national
        case 1:
            return "84" + national
        case 2:
            return "+84" + national
        case 3:
            return national
        case 4:
            return _pick(_OLD_MOBILE, dice >> 20) + tail
        case 5:
            return "84" + tail  # nine digits: 084… that lost its zero, not a country code
        case 7:
            return f"+84 {national[:2]} {national[2:5]}.{national[5:]}"
        case 9:
            return "084" + tail
        case 10:
            return f"028{tail}{dice % 10}"
        case 11:
            return "12345"
        case _:
            return ""


def shared_info(turn: int, dice: int) -> dict[str, object] | None:
    """What the follower shared: null, an empty object, empty texts, or all; the phone also as a number."""
    match turn % 10:
        case 0 | 1 | 2 | 3:
            return None
        case 4:
            return {}
        case 5:
            return dict.fromkeys(("address", "city", "district", "ward", "name", "phone"), "")
    national = int(f"{_pick(_MOBILE, dice >> 4)}000{dice % 10_000:04d}")
    return {
        "address": f"{dice % 200 + 1} {_pick(_STREETS, dice >> 8)}",
        "city": _pick(_CITIES, dice >> 12),
        "district": _pick(_DISTRICTS, dice >> 16),
        "ward": _pick(_WARDS, dice >> 20),
        "name": f"{_pick(_FAMILY, dice >> 24)} {_pick(_GIVEN, dice >> 28)}",
        "phone": {6: f"0{national}", 7: 84_000_000_000 + national, 8: "", 9: national}[turn % 10],
    }


def tags(turn: int, dice: int) -> list[str]:
    """Up to two tag names."""
    return {1: [_pick(_TAGS, dice)], 3: [_pick(_TAGS, dice), "đã xác minh"]}.get(turn % 4, [])


def tags_and_notes(turn: int, dice: int, padding: str) -> dict[str, list[str]] | None:
    """Tags and notes: null, both empty, or filled; `padding` is one more note on everybody."""
    names = tags(turn, dice)
    notes = [f"Ghi chú số {dice % 100}: gọi lại sau 17 giờ"] if turn % 5 == 1 else []
    if padding:
        notes.append(padding)
    if not names and not notes and turn % 8 != 0:
        return None
    return {"notes": notes, "tag_names": names}


def _pick(choices: tuple[str, ...], dice: int) -> str:
    return choices[dice % len(choices)]
