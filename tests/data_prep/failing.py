"""A decoder that fails on files which begin with the word for it; on others it decodes."""

import os

from data_prep.archive import Member
from data_prep.excerpts import DecodedTrack
from data_prep.excerpts import decode_member as decode


def decode_member(member: Member, *arguments: object) -> DecodedTrack:
    data = member.read()
    if data.startswith(b"crash"):
        os.abort()
    if data.startswith(b"loop"):
        while True:
            pass
    if data.startswith(b"memory"):
        bytearray(8 * 2**30)
    return decode(member, *arguments)
