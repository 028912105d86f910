// Draws the dashboard with Grafana's own field settings, transformations and panels, from a real Prometheus.
// What Grafana's server would add (variables, $__rate_interval, loading of panels) is done here in a few lines.
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';
import {
  applyFieldOverrides,
  createTheme,
  dateTime,
  displayNameOverrideProcessor,
  FieldConfigOptionsRegistry,
  FieldType,
  getDisplayProcessor,
  identityOverrideProcessor,
  numberOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  ThemeContext,
  thresholdsOverrideProcessor,
  toDataFrame,
  transformDataFrame,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  PanelChrome,
  Table,
  TimeSeries,
} from '@grafana/ui';
import dashboard from './dashboard.json';

const WIDTH = 1440,
  ROW = 38,
  GAP = 8,
  HEADER = 48;
const to = Date.now(),
  from = to - Number(import.meta.env.VITE_SECONDS) * 1000,
  STEP = 1;
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const theme = createTheme({ colors: { mode: 'dark' } });

standardTransformersRegistry.setInit(
  () =>
    [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map(transformation => ({
      id: transformation.id,
      name: transformation.name,
      transformation: async () => transformation,
      editor: () => null,
    })) as any,
);

const registry = new FieldConfigOptionsRegistry();
const plain = {
  unit: unitOverrideProcessor,
  min: numberOverrideProcessor,
  max: numberOverrideProcessor,
  decimals: numberOverrideProcessor,
  displayName: displayNameOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  color: identityOverrideProcessor,
};
const custom = [
  'lineStyle',
  'lineWidth',
  'lineInterpolation',
  'fillOpacity',
  'showPoints',
  'spanNulls',
  'stacking',
  'hideFrom',
  'width',
  'cellOptions',
  'align',
  'inspect',
];
const item = (id: string, path: string, process: any, isCustom: boolean) =>
  registry.register({
    id,
    path,
    name: id,
    isCustom,
    editor: () => null,
    override: () => null,
    process,
    settings: {},
    shouldApply: () => true,
  } as any);
for (const [id, process] of Object.entries(plain)) item(id, id, process, false);
for (const name of custom) item(`custom.${name}`, name, identityOverrideProcessor, true);

const filled = (expr: string) =>
  expr.replaceAll('$__rate_interval', '15s').replaceAll(/\$(instance|stream|worker)/g, '.*');
const named = (legend: string, labels: any) => legend.replace(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');

async function ask(target: any) {
  const when = target.instant
    ? { time: String(to / 1000) }
    : { start: String(from / 1000), end: String(to / 1000), step: String(STEP) };
  const path = target.instant ? 'query' : 'query_range';
  const answer = await (
    await fetch(`/prom/api/v1/${path}?${new URLSearchParams({ query: filled(target.expr), ...when })}`)
  ).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data.result;
}

// As Grafana's Prometheus data source does: a frame for each series, or one table with a column for each label.
function frames(target: any, result: any[]) {
  if (target.format === 'table') {
    const labels = [...new Set(result.flatMap(series => Object.keys(series.metric)))].filter(
      name => name !== '__name__',
    );
    return [
      toDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: result.map(() => to) },
          ...labels.map(name => ({
            name,
            type: FieldType.string,
            values: result.map(series => series.metric[name] ?? ''),
          })),
          {
            name: `Value #${target.refId}`,
            type: FieldType.number,
            values: result.map(series => Number(series.value[1])),
          },
        ],
      }),
    ];
  }
  return result.map(series => {
    const known = new Map<number, number>(
      (series.values ?? [series.value]).map(([at, value]: any) => [Math.round(at * 1000), Number(value)]),
    );
    const times = target.instant
      ? [...known.keys()]
      : Array.from({ length: Math.floor((to - from) / 1000 / STEP) + 1 }, (_, i) => Math.round(from + i * STEP * 1000));
    return toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: times },
        {
          name: 'Value',
          type: FieldType.number,
          labels: series.metric,
          config: { displayNameFromDS: named(target.legendFormat, series.metric) },
          values: times.map(at => known.get(at) ?? null),
        },
      ],
    });
  });
}

async function load(panel: any) {
  const answers = await Promise.all(panel.targets.map(ask));
  let data = panel.targets.flatMap((target: any, i: number) => frames(target, answers[i]));
  const series = answers.reduce((sum: number, result: any[]) => sum + result.length, 0);
  if (panel.transformations) data = await firstValueFrom(transformDataFrame(panel.transformations, data));
  return {
    series,
    data: applyFieldOverrides({
      data,
      fieldConfig: panel.fieldConfig,
      replaceVariables: (text: string) => text,
      theme,
      fieldConfigRegistry: registry,
      timeZone: 'utc',
    } as any),
  };
}

function Content({ panel, data, width, height }: any) {
  if (panel.type === 'table')
    return <Table data={data[0]} width={width} height={height} initialSortBy={panel.options.sortBy} />;
  if (panel.type === 'timeseries')
    return (
      <TimeSeries
        frames={data}
        structureRev={1}
        width={width}
        height={height}
        timeRange={timeRange as any}
        timeZone="utc"
        legend={panel.options.legend}
      />
    );
  const field = data[0].fields[1];
  const display = field.display ?? getDisplayProcessor({ field, theme });
  return (
    <BigValue
      theme={theme}
      width={width}
      height={height}
      colorMode={BigValueColorMode.BackgroundSolid}
      graphMode={BigValueGraphMode.None}
      textMode={BigValueTextMode.Value}
      value={display(field.values.at(-1))}
    />
  );
}

function Panel({ panel }: any) {
  const [state, set] = useState<any>({});
  useEffect(() => {
    load(panel).then(set, error => set({ error: String(error), data: [], series: 0 }));
  }, []);
  const place = panel.gridPos,
    column = (WIDTH - GAP) / 24;
  const width = column * place.w - GAP,
    height = ROW * place.h - GAP;
  return (
    <div
      data-panel={panel.title}
      data-series={state.series}
      data-error={state.error}
      data-drawn={state.data ? '' : undefined}
      style={{ position: 'absolute', left: GAP + column * place.x, top: HEADER + ROW * place.y }}
    >
      <PanelChrome title={panel.title} width={width} height={height} statusMessage={state.error}>
        {(w: number, h: number) =>
          state.data?.length ? <Content panel={panel} data={state.data} width={w} height={h} /> : <span />
        }
      </PanelChrome>
    </div>
  );
}

function Variables() {
  const box = {
    background: '#1d1f25',
    border: '1px solid #33363d',
    borderRadius: 2,
    padding: '4px 10px',
    marginLeft: 8,
  };
  return (
    <div style={{ position: 'absolute', left: GAP, top: 12, fontSize: 13 }}>
      <b style={{ fontSize: 16, marginRight: 12 }}>{dashboard.title}</b>
      {dashboard.templating.list.map((each: any) => (
        <span key={each.name} style={box}>
          {each.label}: {[each.current.text].flat().join()}
        </span>
      ))}
    </div>
  );
}

const bottom = Math.max(...dashboard.panels.map((panel: any) => panel.gridPos.y + panel.gridPos.h)) * ROW + HEADER;
createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <div
      style={{
        color: theme.colors.text.primary,
        fontFamily: theme.typography.fontFamily,
        fontSize: 14,
        position: 'relative',
        height: bottom,
      }}
    >
      <Variables />
      {dashboard.panels.map((panel: any) => (
        <Panel key={panel.id} panel={panel} />
      ))}
    </div>
  </ThemeContext.Provider>,
);
