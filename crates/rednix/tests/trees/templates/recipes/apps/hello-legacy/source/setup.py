import sys

from setuptools import setup

if "install" in sys.argv:
    with open("hello_legacy/generated.py", "w") as file:
        file.write("WORD = 'generated'\n")
else:
    setup(name="hello-legacy", version="1.0", packages=["hello_legacy"])
