// What the page shows, as a value; the URL holds all of it.
//
//   location.search ──read──▶ state ──write──▶ location.search        back and forward are other states
//   tap on a value  ──toggle──▶ another state

export const RANGES = ['today', 'yesterday', '7d', '28d', 'all'];
export const MEASURES = ['revenue', 'profit', 'margin', 'average', 'orders'];
export const DIMENSIONS = ['state', 'city', 'category', 'product'];

/** The grains that a range can be drawn by, the usual one first. */
export const GRAINS = {
  today: ['hour', 'minute'],
  yesterday: ['hour'],
  '7d': ['day', 'hour'],
  '28d': ['day', 'hour'],
  all: ['day'],
};

const one = (values, wanted) => (values.includes(wanted) ? wanted : values[0]);

export function read(search) {
  const query = new URLSearchParams(search);
  const range = one(RANGES, query.get('range'));
  const state = {
    range,
    grain: one(GRAINS[range], query.get('grain')),
    measure: one(MEASURES, query.get('measure')),
    seller: query.get('seller') || null,
    filters: {},
  };
  for (const dimension of DIMENSIONS) state.filters[dimension] = [...new Set(query.getAll(dimension).filter(Boolean))];
  return state;
}

/** The shortest text that `read` makes the same state of. */
export function write(state) {
  const query = question(state);
  if (state.range === RANGES[0]) query.delete('range');
  if (state.grain === GRAINS[state.range][0]) query.delete('grain');
  if (state.measure !== MEASURES[0]) query.set('measure', state.measure);
  const text = query.toString();
  return text ? `?${text}` : '';
}

/** What of it the server is asked. */
export function question(state) {
  const query = new URLSearchParams({ range: state.range, grain: state.grain });
  if (state.seller) query.set('seller', state.seller);
  for (const dimension of DIMENSIONS) for (const value of state.filters[dimension]) query.append(dimension, value);
  return query;
}

/** States and cities are one choice, of a place: a tap on one replaces the other. */
const SAME = { state: ['state', 'city'], city: ['state', 'city'], category: ['category'], product: ['product'] };

/** Choose only this value, or with `add` this one too; choosing it again lets it go. */
export function toggle(state, dimension, value, add) {
  const held = state.filters[dimension];
  const filters = { ...state.filters };
  if (held.includes(value)) {
    if (add) filters[dimension] = held.filter((other) => other !== value);
    else filters[dimension] = held.length === 1 ? [] : [value];
  } else {
    if (!add) for (const other of SAME[dimension]) filters[other] = [];
    filters[dimension] = add ? [...held, value] : [value];
  }
  return { ...state, filters };
}

export function withRange(state, range) {
  return { ...state, range, grain: one(GRAINS[range], state.grain) };
}

export function clear(state) {
  return { ...state, filters: Object.fromEntries(DIMENSIONS.map((dimension) => [dimension, []])) };
}

export const isFiltered = (state) => DIMENSIONS.some((dimension) => state.filters[dimension].length > 0);
