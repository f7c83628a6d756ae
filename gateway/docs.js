// Shows each operation of the description with its parameters, bodies and
// answers. References are resolved one level at a time, so recursion ends.
const add = (parent, tag, text, cls) => {
  const e = document.createElement(tag);
  if (text) e.textContent = text;
  if (cls) e.className = cls;
  parent.append(e);
  return e;
};

const resolve = (api, schema, depth) => {
  if (!schema || typeof schema !== "object" || depth > 6) return schema;
  if (Array.isArray(schema)) return schema.map((s) => resolve(api, s, depth + 1));
  if (schema.$ref) {
    const target = schema.$ref.split("/").slice(1).reduce((o, k) => o && o[k], api);
    return resolve(api, target, depth + 1);
  }
  return Object.fromEntries(Object.entries(schema).map(([k, v]) => [k, resolve(api, v, depth + 1)]));
};

const show = (api, root) => {
  root.textContent = "";
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, op] of Object.entries(methods)) {
      const box = add(root, "details");
      const head = add(box, "summary");
      add(head, "span", method.toUpperCase(), "method");
      add(head, "code", path);
      add(head, "span", op.summary ? " " + op.summary : "");
      if (op.description) add(box, "p", op.description);
      for (const p of op.parameters || []) {
        const item = add(box, "p");
        add(item, "code", p.name);
        add(item, "span", ` (${p.in}${p.required ? ", required" : ""}) ${p.description || ""}`);
      }
      const schemaOf = (content) => Object.values(content || {})[0]?.schema;
      const body = schemaOf(op.requestBody?.content);
      if (body) {
        add(box, "h4", "Body");
        add(box, "pre", JSON.stringify(resolve(api, body, 0), null, 2));
      }
      for (const [status, answer] of Object.entries(op.responses || {})) {
        add(box, "h4", `${status} ${answer.description || ""}`);
        const schema = schemaOf(answer.content);
        if (schema) add(box, "pre", JSON.stringify(resolve(api, schema, 0), null, 2));
      }
    }
  }
};

const root = document.getElementById("operations");
fetch("/openapi.json")
  .then((r) => r.json())
  .then((api) => show(api, root))
  .catch((err) => { root.textContent = "The description could not be read: " + err; });
