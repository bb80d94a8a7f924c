"""What elements of a DICOM file are changed, and to what."""

from __future__ import annotations

from dicom_bytes import BIG, DEFLATED, EXPLICIT, IMPLICIT, LONG, UNDEFINED

VRS = (*sorted(LONG), b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN")
VRS = (*VRS, b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US", b"XX", b"\0\0", b"  ")
SYNTAXES = (
    *(IMPLICIT, EXPLICIT, BIG, DEFLATED, "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"),
    *("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.100"),
    *("1.2.840.10008.1.2.1.98", "1.2.3", "", "1.2.840.10008.1.2.4.50\0\0", "é", "1" * 70),
)
LENGTHS = (0, 1, 2, 7, 8, 0x7F, 0xFFFE, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, UNDEFINED)
SHORTS = (0, 1, 2, 7, 8, 9, 12, 15, 16, 31, 32, 33, 64, 255, 256, 4096, 8191, 8192, 8193, 0x7FFF, 0x8000, 46341, 0xFFFF)
PIXEL_DATA = 0x7FE00010
# What the pixels are read by, and what they are shown by.
NUMBERS = (0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280006)
TEXTS = (
    *(0x00280008, 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056, 0x00280004, 0x20500020, 0x00200020),
    *(0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080030, 0x00080060, 0x00080008, 0x00080068, 0x0008103E),
    *(0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00101010, 0x00180015, 0x00185101, 0x0020000D, 0x00280301),
    *(0x00181702, 0x00181704, 0x00181706, 0x00181708, 0x00181700, 0x00181710, 0x00181712, 0x00181720, 0x00080022),
)
VALUES = (
    *(b"", b"0", b"1", b"-1", b"2", b"1e308", b"-1e309", b"nan", b"inf", b"1e-320", b"99999999999999999999", b"0x10"),
    *(b"1\\2\\3", b"\\", b"\\\\\\", b"CHEST", b"MONOCHROME1", b"MONOCHROME2", b"PALETTE COLOR", b"RGB", b"INVERSE"),
    *(b"SIGMOID", b"LINEAR_EXACT", b"XYZ", b"20240230", b"00000000", b"99999999", b"19000101", b"246060", b"999Y"),
    *(b"\xff\xfe\xfd", b"\x1b$B\x30\x21", b"\x1b", b"\0\0\0\0", b" " * 64, b"A" * 70000, b"ISO_IR 192", b"GB18030"),
    *(b"\\ISO 2022 IR 87", b"ISO 2022 IR 149\\ISO_IR 100", b"F\\L", b"H\\R", b"POLYGONAL", b"RECTANGULAR", b"CIRCULAR"),
    *(
        b"\xe3\x83\xa4",
        b"\xc3\x28",
        b"0.0000001",
        b"1.5",
        b"YES",
        b"PR",
        b"DX",
        b"=1+1",
        b"<script>",
        b"../../x",
        b"\n\r",
    ),
)
