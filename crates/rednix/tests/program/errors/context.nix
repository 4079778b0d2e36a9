{
  system = builtins.addErrorContext "while looking at the option `boot.loader`" (abort "it has no value");
}
