{
  config.services.web = {
    port = "80" + 1;
  };
}
