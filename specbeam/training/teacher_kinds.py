"""Names of the teachers."""

from typing import Literal

TeacherKind = Literal["none", "co-occurrence", "sasrec"]
TEACHER_KINDS: tuple[TeacherKind, ...] = ("none", "co-occurrence", "sasrec")
