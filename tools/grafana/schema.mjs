// Checks the dashboard against the types of @grafana/schema: node schema.mjs DASHBOARD
// Strategy: JSON Schemas are generated from Grafana's own TypeScript types, which allow no property that they do not
// name; each panel's options and custom field settings are checked against the types of its kind.
import { readFileSync } from 'node:fs';
import Ajv from 'ajv';
import { createGenerator } from 'ts-json-schema-generator';

const TYPES = 'node_modules/@grafana/schema/dist/types/raw';
const KINDS = {
  stat: { path: `${TYPES}/composable/stat/panelcfg/x/types.gen.d.ts`, options: 'Options' },
  table: { path: `${TYPES}/composable/table/panelcfg/x/types.gen.d.ts`, options: 'Options', custom: 'FieldConfig' },
  timeseries: {
    path: `${TYPES}/composable/timeseries/panelcfg/x/types.gen.d.ts`,
    options: 'Options',
    custom: 'FieldConfig',
  },
};

function validator(path, type) {
  const schema = createGenerator({ path, type, skipTypeCheck: true, additionalProperties: false }).createSchema(type);
  return new Ajv({ allErrors: true, strict: false }).compile(schema);
}

function check(where, validate, value, errors) {
  if (!validate(value)) {
    errors.push(...validate.errors.map(e => `${where}${e.instancePath}: ${e.message} ${JSON.stringify(e.params)}`));
  }
}

const dashboard = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const errors = [];
check('', validator(`${TYPES}/dashboard/x/types.gen.d.ts`, 'Dashboard'), dashboard, errors);
for (const [kind, { path, options, custom }] of Object.entries(KINDS)) {
  const ofOptions = validator(path, options);
  const ofCustom = custom && validator(path, custom);
  for (const panel of dashboard.panels.filter(p => p.type === kind)) {
    check(`${panel.title}: options`, ofOptions, panel.options, errors);
    if (ofCustom) check(`${panel.title}: custom`, ofCustom, panel.fieldConfig.defaults.custom ?? {}, errors);
  }
}
const unknown = dashboard.panels
  .filter(p => !(p.type in KINDS))
  .map(p => `${p.title}: panels of type ${p.type} are not checked`);
console.log([...errors, ...unknown].join('\n') || `${dashboard.panels.length} panels fit Grafana's schema`);
process.exit(errors.length || unknown.length ? 1 : 0);
