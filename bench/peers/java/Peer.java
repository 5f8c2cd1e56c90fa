// SPDX-License-Identifier: Apache-2.0

import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

import com.github.benmanes.caffeine.cache.Cache;
import com.github.benmanes.caffeine.cache.Caffeine;
import com.github.benmanes.caffeine.cache.LoadingCache;

/**
 * The same work as bench/cache, done with Caffeine's LoadingCache.
 *
 * <p>Each run executes one case in a fresh process, so that the compiler sees one kind of cache and
 * can inline through it, and prints one JSON object of figures on standard output. The driver
 * (bench/run) interleaves these runs with ours. Plain loops run until they are compiled, then are
 * timed; what they read is summed up and checked, so that the compiler cannot remove any of it.
 */
final class Peer {
  private static final int DRAWS = 1 << 20;
  private static final double SKEW = 0.99;
  private static final long SEED = 42;

  private static final int REPETITIONS = 5;
  private static final long WARM_UP_NS = 1_000_000_000L;

  private static final AtomicLong LOADS = new AtomicLong();

  /** splitmix64, as in bench/support/workload.hpp, so that both sides get one workload. */
  private static final class Random {
    private long state;

    Random(long seed) {
      state = seed;
    }

    double unit() {
      state += 0x9E3779B97F4A7C15L;
      long z = state;
      z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
      z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
      z ^= z >>> 31;
      return (double) (z >>> 11) / (double) (1L << 53);
    }
  }

  /** DRAWS ranks out of {@code keys}, Zipf, the most popular is 0. */
  private static int[] drawRanks(int keys) {
    double[] cumulative = new double[keys];
    double sum = 0;
    for (int i = 0; i < keys; i++) {
      sum += 1 / Math.pow(i + 1, SKEW);
      cumulative[i] = sum;
    }
    Random draw = new Random(SEED);
    int[] ranks = new int[DRAWS];
    for (int i = 0; i < DRAWS; i++) {
      int found = Arrays.binarySearch(cumulative, draw.unit() * sum);
      ranks[i] = Math.min(found < 0 ? -found - 1 : found, keys - 1);
    }
    return ranks;
  }

  private static String text(int i) {
    return String.format("key:%012d", i);
  }

  /** Every key drawn, as the object that a caller holds; {@code keys} has one for each rank. */
  private static <K> K[] drawn(K[] keys) {
    int[] ranks = drawRanks(keys.length);
    K[] all = Arrays.copyOf(keys, DRAWS);
    for (int i = 0; i < DRAWS; i++) all[i] = keys[ranks[i]];
    return all;
  }

  private static <K> long hits(LoadingCache<K, Long> cache, K[] keys, int first, int calls) {
    long sum = 0;
    for (int i = first, end = first + calls; i < end; i++) {
      sum += cache.get(keys[i & (DRAWS - 1)]);
    }
    return sum;
  }

  /** Nanoseconds of wall time per call over all threads, which begin behind a barrier. */
  private static <K> double hitsTogether(LoadingCache<K, Long> cache, K[] keys, int threads)
      throws InterruptedException {
    long[] begin = new long[threads];
    long[] end = new long[threads];
    long[] sum = new long[threads];
    CyclicBarrier start = new CyclicBarrier(threads);
    Thread[] all = new Thread[threads];
    for (int t = 0; t < threads; t++) {
      int self = t;
      all[t] = new Thread(() -> {
        try {
          start.await();
        } catch (InterruptedException | BrokenBarrierException e) {
          throw new IllegalStateException(e);
        }
        begin[self] = System.nanoTime();
        sum[self] = hits(cache, keys, self * (DRAWS / threads), 2 * DRAWS);
        end[self] = System.nanoTime();
      });
      all[t].start();
    }
    for (Thread thread : all) thread.join();
    long expected = hits(cache, keys, 0, 2 * DRAWS);
    for (long one : sum) check(one == expected, "a value was wrong");
    long took = Arrays.stream(end).max().getAsLong() - Arrays.stream(begin).min().getAsLong();
    return (double) took / (2.0 * DRAWS * threads);
  }

  /** Hits on one thread, then on two; {@code stored} are the objects that fill the cache. */
  private static <K> void measureHits(LoadingCache<K, Long> cache, K[] stored, K[] lookups)
      throws InterruptedException {
    for (K key : stored) cache.get(key);
    cache.cleanUp();
    K[] keys = drawn(lookups);
    hitsTogether(cache, keys, 1);
    check(cache.estimatedSize() == stored.length, "not every entry is in the cache");
    long loads = LOADS.get();

    long enough = System.nanoTime() + WARM_UP_NS;
    while (System.nanoTime() < enough) hitsTogether(cache, keys, 1);
    double[] alone = new double[REPETITIONS];
    for (int i = 0; i < REPETITIONS; i++) alone[i] = hitsTogether(cache, keys, 1);
    hitsTogether(cache, keys, 2);
    double[] two = new double[REPETITIONS];
    for (int i = 0; i < REPETITIONS; i++) two[i] = hitsTogether(cache, keys, 2);
    check(LOADS.get() == loads, "a hit was a miss");
    print("alone_ns", median(alone), "two_threads_ns", median(two));
  }

  private static long misses(LoadingCache<Long, Long> cache, long first, int calls) {
    long sum = 0;
    for (long key = first; key < first + calls; key++) sum += cache.get(key);
    return sum;
  }

  /** Loads of new keys into a full cache; evictions run on the cache's executor. */
  private static void measureMisses(Caffeine<Object, Object> builder) {
    final int capacity = 10_000;
    final int calls = 500_000;
    LoadingCache<Long, Long> cache = builder.maximumSize(capacity).build(key -> key);
    long next = 0;
    long enough = System.nanoTime() + WARM_UP_NS;
    for (; System.nanoTime() < enough; next += calls) misses(cache, next, calls);
    double[] found = new double[REPETITIONS];
    for (int i = 0; i < REPETITIONS; i++, next += calls) {
      long begin = System.nanoTime();
      long sum = misses(cache, next, calls);
      found[i] = (double) (System.nanoTime() - begin) / calls;
      check(sum == calls * next + (long) calls * (calls - 1) / 2, "a value was wrong");
    }
    cache.cleanUp();
    check(cache.estimatedSize() <= capacity, "the cache holds more than it may");
    print("miss_ns", median(found));
  }

  /** Puts of new keys into a cache that is empty at first; no warm-up, as in ours. */
  private static void measureGrowth() {
    final int entries = 4_000_000;
    Cache<Long, Long> cache = Caffeine.newBuilder().maximumSize(entries).build();
    long begin = System.nanoTime();
    for (long key = 0; key < entries; key++) cache.put(key, key);
    double took = System.nanoTime() - begin;
    cache.cleanUp();
    check(cache.estimatedSize() == entries, "not every entry is in the cache");
    print("put_ns", took / entries);
  }

  private static double median(double[] values) {
    Arrays.sort(values);
    return values[values.length / 2];
  }

  private static void check(boolean holds, String otherwise) {
    if (!holds) throw new IllegalStateException(otherwise);
  }

  private static void print(Object... namesAndValues) {
    StringBuilder line = new StringBuilder("{");
    for (int i = 0; i < namesAndValues.length; i += 2) {
      Object name = namesAndValues[i];
      Object value = namesAndValues[i + 1];
      line.append(i == 0 ? "" : ", ");
      line.append(String.format(Locale.ROOT, "\"%s\": %.4f", name, value));
    }
    System.out.println(line.append("}"));
  }

  private static Long load(Object key) {
    return LOADS.incrementAndGet();
  }

  private static Long[] numbers(int count) {
    Long[] keys = new Long[count];
    Arrays.setAll(keys, i -> (long) i);
    return keys;
  }

  private static String[] texts(int count) {
    String[] keys = new String[count];
    Arrays.setAll(keys, Peer::text);
    return keys;
  }

  public static void main(String[] arguments) throws InterruptedException {
    String which = arguments.length == 1 ? arguments[0] : "";
    final int few = 1_000;
    final int many = 100_000;
    switch (which) {
      case "hit": {
        Long[] keys = numbers(few);
        measureHits(Caffeine.newBuilder().maximumSize(few).build(Peer::load), keys, keys);
        break;
      }
      case "hit-ttl": {
        Long[] keys = numbers(few);
        measureHits(Caffeine.newBuilder().maximumSize(few).expireAfterWrite(10, TimeUnit.MINUTES)
            .recordStats().build(Peer::load), keys, keys);
        break;
      }
      case "hit-strings": {
        String[] keys = texts(many);
        measureHits(Caffeine.newBuilder().maximumSize(many).build(Peer::load), keys, keys);
        break;
      }
      case "hit-strings-equal":  // equal to those in the cache, but other objects
        measureHits(Caffeine.newBuilder().maximumSize(many).build(Peer::load), texts(many),
            texts(many));
        break;
      case "miss":
        measureMisses(Caffeine.newBuilder());
        break;
      case "miss-same-thread":
        measureMisses(Caffeine.newBuilder().executor(Runnable::run));
        break;
      case "grow":
        measureGrowth();
        break;
      default:
        System.err.println("usage: Peer hit | hit-ttl | hit-strings | hit-strings-equal | miss | "
            + "miss-same-thread | grow");
        System.exit(2);
    }
  }
}
