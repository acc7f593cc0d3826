from schemas import deadletters


def test_the_headers_of_a_dead_letter_are_the_contracts() -> None:
    names = {name: value for name, value in vars(deadletters).items() if name.isupper() and isinstance(value, str)}

    assert names == {
        "JOB_ID": "Followers-Job-Id",
        "MESSAGE_ID": "Followers-Msg-Id",
        "ERROR_CODE": "Followers-Error-Code",
        "ERROR_MESSAGE": "Followers-Error-Message",
        "ATTEMPTS": "Followers-Attempts",
        "COMMAND_SEQUENCE": "Followers-Stream-Sequence",
        "GENERATION": "Followers-Generation",
        "FAILED_AT": "Followers-Failed-At",
        "BODY_BYTES": "Followers-Body-Bytes",
        "HEADERS_DROPPED": "Followers-Headers-Dropped",
        "RETRY": "Followers-Retry",
    }
    letter = {"BODY_BYTES", "HEADERS_DROPPED", "RETRY", "MESSAGE_ID"}
    assert {names[name] for name in names.keys() - letter} == deadletters.ALWAYS
    assert {names[name] for name in ("JOB_ID", "MESSAGE_ID", "GENERATION")} == deadletters.NAMES
    assert set(names.values()) == deadletters.OURS
