// The charts that need a library: Apache ECharts, with only the parts that are used.
//
//   ready(url of the map) ─▶ trend(element), donut(element, page), map(element, page) ─▶ { update, restyle, resize }
//
// Colours are those of the style sheet, read when a chart is drawn. Tooltips are elements of ours, because the page's
// content policy has no room for styles inside of text. Every chart has a twin of plain HTML that filters, too.

import * as echarts from 'echarts/core';
import { EffectScatterChart, LineChart, PieChart, ScatterChart } from 'echarts/charts';
import { GeoComponent, GridComponent, TitleComponent, TooltipComponent } from 'echarts/components';
import { CanvasRenderer } from 'echarts/renderers';
import { clock, count, countAxis, dayAndClock, percent, rupees, rupeesAxis, rupeesExact, weekday, day } from './format.js';
import { measured } from './figures.js';
import { h } from './dom.js';
import { WORDS } from './words.js';

echarts.use([
  CanvasRenderer,
  EffectScatterChart,
  GeoComponent,
  GridComponent,
  LineChart,
  PieChart,
  ScatterChart,
  TitleComponent,
  TooltipComponent,
]);

const still = matchMedia('(prefers-reduced-motion: reduce)');
const MOTION_MS = 350;
const PULSE_MS = 4000;
const LABELS = 6;

let shapes;

/** Load the map of India. Its outline is never replaced by another one. */
export async function ready(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the map is not there: ${response.status}`);
  shapes = await response.json();
  echarts.registerMap('india', shapes);
}

/** A colour of the style sheet. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const font = () => getComputedStyle(document.body).fontFamily;

/** A chart that draws `option(data)` whenever data, colours or size change. */
function chart(element, option, wire) {
  const drawn = echarts.init(element, null, { renderer: 'canvas' });
  let last;
  wire?.(drawn);
  const draw = () => {
    if (!last) return;
    const motion = still.matches ? { animation: false } : { animationDuration: MOTION_MS, animationDurationUpdate: MOTION_MS };
    const made = option(...last);
    drawn.setOption({ ...motion, textStyle: { fontFamily: font() }, ...made.option }, { replaceMerge: ['series'] });
    if (made.label) element.setAttribute('aria-label', made.label);
  };
  return {
    drawn,
    update: (...data) => {
      last = data;
      draw();
    },
    restyle: draw,
    resize: () => element.clientWidth && drawn.resize({ animation: { duration: 0 } }),
  };
}

const tooltip = (formatter, more = {}) => ({
  ...more,
  confine: true,
  className: 'tip',
  transitionDuration: 0,
  backgroundColor: colour('card'),
  borderColor: colour('line'),
  padding: 10,
  textStyle: { color: colour('ink'), fontSize: 13, fontFamily: font() },
  formatter,
});

const line = (name, value) => h('p', {}, h('span', { class: 'soft' }, name), h('b', {}, value));

const exactly = (measure, value) =>
  value === undefined || value === null ? '–' : measure === 'margin' ? percent(value) : measure === 'orders' ? count(value) : rupeesExact(value);

export function trend(element) {
  return chart(element, (rows, measure, answer) => {
    const { grain, range, before } = answer.period;
    const when = { minute: clock, hour: range === '7d' ? dayAndClock : clock, day: rows.length > 8 ? day : weekday }[grain];
    const axis = measure === 'margin' ? (value) => percent(value) : measure === 'orders' ? countAxis : rupeesAxis;
    const values = rows.map((row) => (row.future ? null : (measured(measure, row.sums) ?? null)));
    const compares = before && rows.some((row) => row.then.orders > 0);
    const then = compares ? rows.map((row) => measured(measure, row.then) ?? null) : [];
    const accent = colour('accent');
    const newest = values.findLastIndex((value) => value !== null);
    const points = values.map((value, at) => (at === newest ? { value, symbol: 'circle', symbolSize: 9 } : value));
    return {
      label: `${WORDS.measures[measure]} ${WORDS.by[grain]}, ${values.length} values`,
      option: {
        grid: { left: 4, right: 14, top: 12, bottom: 4, outerBoundsMode: 'same', outerBoundsContain: 'axisLabel' },
        tooltip: tooltip(
          ([{ dataIndex }]) => {
            const row = rows[dataIndex];
            const lines = [h('h4', {}, grain === 'day' ? weekday(row.at) : dayAndClock(row.at))];
            if (!row.future) lines.push(line(WORDS.line[range], exactly(measure, measured(measure, row.sums))));
            if (compares) lines.push(line(WORDS.ghost[range], exactly(measure, measured(measure, row.then))));
            return h('div', {}, ...lines);
          },
          { trigger: 'axis', axisPointer: { type: 'line', lineStyle: { color: colour('soft'), type: 'solid', width: 1 } } },
        ),
        xAxis: {
          type: 'category',
          data: rows.map((row) => row.at),
          boundaryGap: false,
          axisTick: { show: false },
          axisLine: { lineStyle: { color: colour('line') } },
          axisLabel: { formatter: when, color: colour('soft'), fontSize: 12, hideOverlap: true, alignMinLabel: 'left', alignMaxLabel: 'right' },
        },
        yAxis: {
          type: 'value',
          splitNumber: 4,
          minInterval: measure === 'margin' ? 0 : 1,
          axisLabel: { formatter: axis, color: colour('soft'), fontSize: 12 },
          splitLine: { lineStyle: { color: colour('line') } },
        },
        series: [
          {
            id: 'then',
            type: 'line',
            data: then,
            showSymbol: false,
            silent: true,
            connectNulls: true,
            lineStyle: { color: colour('ghost'), width: 1.5, type: [5, 4] },
            itemStyle: { color: colour('ghost') },
          },
          {
            id: 'now',
            type: 'line',
            data: points,
            symbol: 'none',
            connectNulls: true,
            lineStyle: { color: accent, width: 2.5, join: 'round' },
            itemStyle: { color: accent, borderColor: colour('card'), borderWidth: 2 },
            areaStyle: { color: new echarts.graphic.LinearGradient(0, 0, 0, 1, [{ offset: 0, color: colour('accent-area') }, { offset: 1, color: colour('accent-none') }]) },
          },
        ],
      },
    };
  });
}

export function donut(element, page) {
  const made = chart(
    element,
    (rows, { state }) => {
      const held = state.filters.category;
      const total = rows.reduce((sum, row) => sum + row.profit, 0);
      const item = (row, at) => ({
        name: row.category ?? WORDS.unknown,
        value: row.profit,
        row,
        itemStyle: { color: colour(`slice-${at}`), opacity: held.length && !held.includes(row.category) ? 0.28 : 1 },
      });
      return {
        label: rows.map((row) => `${row.category ?? WORDS.unknown} ${percent(row.profit / total)}`).join(', '),
        option: {
          title: {
            text: rows.length ? rupees(total) : '',
            subtext: rows.length ? WORDS.total : '',
            left: 'center',
            top: 'middle',
            itemGap: 4,
            textStyle: { color: colour('ink'), fontSize: 19, fontWeight: 650, fontFamily: font() },
            subtextStyle: { color: colour('soft'), fontSize: 12, fontFamily: font() },
          },
          tooltip: tooltip(
            ({ data, percent: part }) =>
              h('div', {}, h('h4', {}, data.name), line(WORDS.columns.profit, rupeesExact(data.value)), line(WORDS.columns.share ?? '', `${part.toFixed(1)}%`)),
            { trigger: 'item' },
          ),
          series: [
            {
              id: 'parts',
              type: 'pie',
              showEmptyCircle: false,
              radius: ['66%', '94%'],
              padAngle: rows.length > 1 ? 1.5 : 0,
              itemStyle: { borderRadius: 4 },
              label: { show: false },
              emphasis: { scaleSize: 3 },
              data: rows.map(item),
            },
          ],
        },
      };
    },
    (drawn) => {
      drawn.on('click', ({ data, event }) => {
        if (data.row.others || data.row.category === null) return;
        page.toggle('category', data.row.category, added(event));
      });
    },
  );
  return made;
}

/** Another named city lies close in the east, where the name would be. */
const crowded = (row, named) =>
  named.some((other) => other.longitude > row.longitude && other.longitude - row.longitude < 3.5 && Math.abs(other.latitude - row.latitude) < 1.2);

const added = (event) => Boolean(event?.event?.ctrlKey || event?.event?.metaKey);

export function map(element, page) {
  let names = new Map();
  let seen;
  let calm;
  const made = chart(
    element,
    ({ tiles }, { state }) => {
      const places = tiles.cities.filter((row) => row.latitude !== null && row.latitude !== undefined && row.revenue > 0);
      names = new Map(tiles.cities.filter((row) => row.state).map((row) => [row.state.toUpperCase(), row.state]));
      const most = Math.max(...places.map((row) => row.revenue), 1);
      const scale = Math.min(1, element.clientWidth / 420) * 40;
      const chosen = (row) => state.filters.city.includes(row.city) || state.filters.state.includes(row.state);
      const filtered = state.filters.city.length + state.filters.state.length > 0;
      const named = (filtered ? places.filter(chosen) : places).slice(0, LABELS);
      const points = places.map((row) => ({
        name: row.city,
        row,
        value: [row.longitude, row.latitude, row.revenue],
        symbolSize: Math.max(7, Math.sqrt(row.revenue / most) * scale),
        itemStyle: { opacity: filtered && !chosen(row) ? 0.22 : 0.82 },
        label: { show: named.includes(row), position: crowded(row, named) ? 'left' : 'right' },
      }));
      return {
        label: `${WORDS.columns.revenue}: ${places.slice(0, LABELS).map((row) => `${row.city} ${rupees(row.revenue)}`).join(', ')}`,
        option: {
          tooltip: tooltip(
            (item) => {
              const { row } = item.data;
              return h(
                'div',
                {},
                h('h4', {}, row.city, h('small', {}, row.state ?? '')),
                line(WORDS.columns.revenue, rupeesExact(row.revenue)),
                line(WORDS.columns.profit, rupeesExact(row.profit)),
                line(WORDS.columns.orders, count(row.orders)),
              );
            },
            { trigger: 'item' },
          ),
          geo: {
            map: 'india',
            aspectScale: 0.92,
            left: 8,
            right: 8,
            top: 6,
            bottom: 6,
            roam: false,
            itemStyle: { areaColor: colour('land'), borderColor: colour('border'), borderWidth: 0.7 },
            emphasis: { label: { show: false }, itemStyle: { areaColor: colour('land-over') } },
            select: { disabled: true },
            tooltip: { show: true, formatter: ({ name }) => region(name, tiles.cities) },
            regions: shapes.features
              .map((feature) => feature.properties.name)
              .filter((name) => state.filters.state.includes(names.get(name)))
              .map((name) => ({ name, itemStyle: { areaColor: colour('accent-soft'), borderColor: colour('accent'), borderWidth: 1.4 } })),
          },
          series: [
            {
              id: 'cities',
              type: 'scatter',
              coordinateSystem: 'geo',
              data: points,
              itemStyle: { color: colour('bubble'), borderColor: colour('card'), borderWidth: 1.2 },
              emphasis: { scale: 1.1, itemStyle: { opacity: 1 } },
              label: {
                formatter: '{b}',
                distance: 4,
                color: colour('ink'),
                fontSize: 12,
                fontWeight: 600,
                textBorderColor: colour('card'),
                textBorderWidth: 3,
              },
              labelLayout: { hideOverlap: true },
            },
            {
              id: 'new',
              type: 'effectScatter',
              coordinateSystem: 'geo',
              silent: true,
              symbolSize: 8,
              rippleEffect: { scale: 5, brushType: 'stroke', period: 2 },
              itemStyle: { color: colour('warm') },
              data: fresh(tiles, places),
            },
          ],
        },
      };
    },
    (drawn) => {
      drawn.on('click', (item) => {
        if (item.componentType === 'geo') {
          if (names.has(item.name)) page.toggle('state', names.get(item.name), added(item.event));
        } else if (item.data?.row) page.toggle('city', item.data.row.city, added(item.event));
      });
    },
  );

  /** A state, by its name on the map, and what is sold there. */
  function region(name, cities) {
    const rows = cities.filter((row) => row.state?.toUpperCase() === name);
    const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
    const title = names.get(name) ?? name.toLowerCase().replace(/\b(?!and\b)\w/g, (first) => first.toUpperCase());
    return h('div', {}, h('h4', {}, title), line(WORDS.columns.revenue, rupeesExact(sum('revenue'))), line(WORDS.columns.orders, count(sum('orders'))));
  }

  /** Where orders have come from since the last look; they pulse for a while. */
  function fresh(tiles, places) {
    if (still.matches) return [];
    const before = seen;
    seen = new Set(tiles.orders.map((order) => order.order_id));
    if (!before || !page.renewed) return [];
    const cities = new Set(tiles.orders.filter((order) => !before.has(order.order_id)).map((order) => order.city));
    if (cities.size === 0) return [];
    clearTimeout(calm);
    calm = setTimeout(() => made.drawn.setOption({ series: [{ id: 'new', data: [] }] }), PULSE_MS);
    return places.filter((row) => cities.has(row.city)).map((row) => [row.longitude, row.latitude]);
  }

  return made;
}
