// Relative, so that the page also works behind a proxy that puts it under another path. No validator:
// that would be somebody else's server.
SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "../openapi.json",
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
});
