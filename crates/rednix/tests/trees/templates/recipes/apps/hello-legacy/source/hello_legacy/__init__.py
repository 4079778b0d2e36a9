from hello_legacy.generated import WORD
