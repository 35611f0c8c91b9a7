// The HTTP API by Swagger UI, which comes as a package (scripts/assets.sh); nothing is asked of
// any other address.
const place = document.getElementById("docs");
if (typeof SwaggerUIBundle === "undefined") {
  const text = document.createElement("p");
  text.className = "missing";
  text.textContent =
    "Swagger UI is not installed here: run scripts/assets.sh, or use a packaged release."
    + " The document itself is at /openapi.json.";
  place.append(text);
} else {
  SwaggerUIBundle({
    url: "/openapi.json",
    domNode: place,
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    docExpansion: "list",
    filter: true,
    persistAuthorization: false,
    validatorUrl: null,
    queryConfigEnabled: false,
    // A large answer is shown as it is at once; painting it would hold the page up.
    syntaxHighlight: { activated: false },
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
  });
}
