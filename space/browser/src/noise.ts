/**
 * Normal numbers as torch's CPU generator draws them, so that a seed gives the same colours in the
 * page as in Python: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), 24 bits of it a
 * number, and the Box-Muller transform in blocks of sixteen.
 */

const SIZE = 624;
const MIDDLE = 397;
const BLOCK = 16;

export class TorchGenerator {
  private readonly state = new Uint32Array(SIZE);
  private next = SIZE;

  /** `seed` is a whole number from 0; torch, too, takes its low 32 bits. */
  constructor(seed: number) {
    this.state[0] = seed >>> 0;
    for (let i = 1; i < SIZE; i++) {
      const last = this.state[i - 1]! ^ (this.state[i - 1]! >>> 30);
      this.state[i] = Math.imul(1812433253, last) + i;
    }
  }

  /** `count` normal numbers, the same as `torch.randn(count, generator=...)`; at least 16. */
  normal(count: number): Float32Array {
    if (count < BLOCK) {
      throw new RangeError(`At least ${BLOCK} numbers are drawn at a time, not ${count}.`);
    }
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = this.uniform();
    for (let i = 0; i + BLOCK <= count; i += BLOCK) boxMuller(values, i);
    if (count % BLOCK) {
      // What is left over gets a block of its own, over the end of the last one.
      const start = count - BLOCK;
      for (let i = start; i < count; i++) values[i] = this.uniform();
      boxMuller(values, start);
    }
    return values;
  }

  /** In [0, 1), 24 bits. */
  private uniform(): number {
    return (this.bits() & 0xffffff) / 0x1000000;
  }

  private bits(): number {
    if (this.next === SIZE) this.twist();
    let y = this.state[this.next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  private twist(): void {
    const { state } = this;
    for (let i = 0; i < SIZE; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % SIZE]! & 0x7fffffff);
      state[i] = state[(i + MIDDLE) % SIZE]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/** Sixteen uniform numbers at `start` to normal ones: the first eight are radii, the others angles. */
function boxMuller(values: Float32Array, start: number): void {
  for (let i = start; i < start + BLOCK / 2; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[i]!));
    const angle = 2 * Math.PI * values[i + BLOCK / 2]!;
    values[i] = radius * Math.cos(angle);
    values[i + BLOCK / 2] = radius * Math.sin(angle);
  }
}
