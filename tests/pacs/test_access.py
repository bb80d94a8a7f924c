"""Who may be told the credentials."""

import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.access import Access, read_access, read_address

USER = Access(user="reader", password="secret")


@pytest.mark.parametrize("access", [USER, Access(token="secret")])
@pytest.mark.parametrize(
    "address", ["http://pacs.example/dicom-web", "http://10.0.0.1/dicom-web", "http://127.0.0.1.example/x"]
)
def test_credentials_do_not_travel_unencrypted_to_another_machine(access, address):
    with pytest.raises(CxrPairError, match="unencrypted") as error:
        access.check(read_address(address))
    assert "secret" not in str(error.value)


def test_a_password_does_not_travel_over_plain_dimse_to_another_machine():
    with pytest.raises(CxrPairError, match="dimses://"):
        USER.check(read_address("dimse://ARCHIVE@pacs.example:104"))


@pytest.mark.parametrize(
    "address",
    [
        "https://pacs.example/x",
        "http://127.0.0.1:8042/x",
        "http://localhost/x",
        "http://[::1]/x",
        "dimses://A@pacs.example:2762",
    ],
)
def test_credentials_may_go_to_this_machine_or_encrypted(address):
    USER.check(read_address(address))


@pytest.mark.parametrize(
    "address",
    ["https://u:secret@pacs.example/x", "https://u@pacs.example/x", "dimse://A:secret@h:1", "https://h/x?token=secret"],
)
def test_credentials_on_the_command_line_are_refused_and_not_shown(address):
    with pytest.raises(CxrPairError, match="CXRPAIR_PACS_USER") as error:
        read_address(address)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "address", ["pacs.example", "ftp://x/y", "dimse://host:104", "dimse://A@host", "dimse://A@host:x", "https://"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(CxrPairError):
        read_address(address)


def test_an_ae_title_keeps_its_case():
    assert read_address("dimse://Orthanc@Host:104").aet == "Orthanc"


@pytest.mark.parametrize(
    "access",
    [
        Access(user="u", token="t"),
        Access(password="p"),
        Access(token="t", user=""),
    ],
)
def test_credentials_that_do_not_fit_are_refused(access):
    with pytest.raises(CxrPairError):
        access.check(read_address("dimses://A@pacs.example:104"))


def test_secrets_are_not_in_what_a_traceback_shows():
    access = read_access({"CXRPAIR_PACS_USER": "u", "CXRPAIR_PACS_PASSWORD": "pw1", "CXRPAIR_PACS_TOKEN": "tk1"})
    assert "pw1" not in repr(access)
    assert "tk1" not in repr(access)
