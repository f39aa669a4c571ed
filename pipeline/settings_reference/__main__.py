"""`python -m pipeline.settings_reference`: writes the generated files anew. Run it after changing a setting."""

from pipeline.settings_reference import generated

for path, text in generated.files().items():
    path.write_text(text, encoding="utf-8")
    print(f"Wrote {path}.")
