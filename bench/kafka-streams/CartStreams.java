import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.MapperFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The job of `bench/kafka/job.ts` in Kafka Streams, exactly once, its state in RocksDB: events are checked, repeats of 24
 * hours dropped, and carts found that nobody bought within half an hour of event time.
 *
 * <pre>java -cp 'libs/*' CartStreams.java BROKERS TOPIC GROUP FOLDER THREADS</pre>
 *
 * Events go to GROUP.events, carts to GROUP.carts, and what is no event to GROUP.dead. What it has done so far is
 * printed four times a second, as JSON.
 */
public class CartStreams {
  static final long WITHIN = Duration.ofMinutes(30).toMillis();
  static final long LATENESS = Duration.ofMinutes(1).toMillis();
  static final long REPEATS = Duration.ofHours(24).toMillis();
  static final Set<String> TYPES = Set.of("view", "addtocart", "transaction");
  static final AtomicLong read = new AtomicLong(), events = new AtomicLong(), carts = new AtomicLong(), dead = new AtomicLong();

  public static class Event {
    public String eventId, visitorId, type, itemId, transactionId, page;
    public long occurredAt;
  }

  /** What is known of a visitor: the cart, waits by their beginning, and purchases. */
  public static class Visitor {
    public List<String> items = new ArrayList<>();
    public List<Wait> waits = new ArrayList<>();
    public List<Long> stops = new ArrayList<>();
  }

  public static class Wait {
    public long at;
    public List<String> items;
  }

  public static class Cart {
    public String visitorId;
    public List<String> items;
    public long abandonedAt;
  }

  public static void main(String[] args) throws Exception {
    String group = args[2];
    Topology topology = new Topology();
    topology
        .addSource("source", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), args[1])
        .addProcessor("job", Job::new, "source")
        .addStateStore(
            Stores.windowStoreBuilder(
                Stores.persistentWindowStore("seen", Duration.ofMillis(REPEATS + LATENESS), Duration.ofMillis(REPEATS), false),
                Serdes.String(), Serdes.ByteArray()), "job")
        .addStateStore(
            Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("visitors"), Serdes.String(), Serdes.ByteArray()), "job")
        .addStateStore(
            Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("due"), Serdes.ByteArray(), Serdes.ByteArray()), "job");
    for (String output : List.of("events", "carts", "dead")) {
      topology.addSink(output, group + "." + output, Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "job");
    }
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[4]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    KafkaStreams streams = new KafkaStreams(topology, settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    while (true) {
      System.out.printf("{\"read\":%d,\"events\":%d,\"carts\":%d,\"dead\":%d}%n", read.get(), events.get(), carts.get(), dead.get());
      Thread.sleep(250);
    }
  }

  static class Job implements Processor<byte[], byte[], byte[], byte[]> {
    private final ObjectMapper json = JsonMapper.builder()
        .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
        .disable(MapperFeature.ALLOW_COERCION_OF_SCALARS)
        .build();
    private ProcessorContext<byte[], byte[]> context;
    private WindowStore<String, byte[]> seen;
    private KeyValueStore<String, byte[]> visitors;
    private KeyValueStore<byte[], byte[]> due;
    private long watermark = Long.MIN_VALUE;
    /** No wait ends before; so that the store need not be asked with every record. */
    private long nextDue = Long.MIN_VALUE;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      seen = context.getStateStore("seen");
      visitors = context.getStateStore("visitors");
      due = context.getStateStore("due");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      read.incrementAndGet();
      Event event = eventOf(record.value());
      if (event == null) {
        dead.incrementAndGet();
        context.forward(record, "dead");
        return;
      }
      long time = event.occurredAt;
      if (time - LATENESS > watermark) watermark = time - LATENESS;
      if (nextDue < watermark) fire(record);
      try (var before = seen.fetch(event.eventId, time - REPEATS, time + REPEATS)) {
        if (before.hasNext()) return;
      }
      seen.put(event.eventId, new byte[0], time);
      events.incrementAndGet();
      context.forward(record.withValue(bytes(event)), "events");
      if (!event.type.equals("view")) cart(event, time);
    }

    private void cart(Event event, long time) {
      byte[] stored = visitors.get(event.visitorId);
      Visitor visitor = stored == null ? new Visitor() : read(stored, Visitor.class);
      if (event.type.equals("addtocart")) {
        visitor.items.remove(event.itemId);
        visitor.items.add(event.itemId);
        if (visitor.items.size() > 20) visitor.items.remove(0);
        if (time + WITHIN >= watermark) {
          Wait wait = new Wait();
          wait.at = time;
          wait.items = new ArrayList<>(visitor.items);
          visitor.waits.removeIf(other -> other.at == time);
          visitor.waits.add(wait);
          due.put(dueKey(time + WITHIN, event.visitorId), new byte[0]);
          nextDue = Math.min(nextDue, time + WITHIN);
        }
      } else {
        visitor.items.clear();
        visitor.stops.add(time);
      }
      long open = visitor.waits.stream().mapToLong(wait -> wait.at).min().orElse(Long.MAX_VALUE);
      visitor.stops.removeIf(stop -> stop < Math.min(watermark - WITHIN, open));
      visitors.put(event.visitorId, bytes(visitor));
    }

    /** All waits that are over. */
    private void fire(Record<byte[], byte[]> record) {
      List<byte[]> over = new ArrayList<>();
      nextDue = Long.MAX_VALUE;
      try (var all = due.all()) {
        while (all.hasNext()) {
          byte[] key = all.next().key;
          if (ByteBuffer.wrap(key).getLong() >= watermark) {
            nextDue = ByteBuffer.wrap(key).getLong();
            break;
          }
          over.add(key);
        }
      }
      for (byte[] key : over) {
        due.delete(key);
        long time = ByteBuffer.wrap(key).getLong();
        long began = time - WITHIN;
        String visitorId = new String(key, 8, key.length - 8, StandardCharsets.UTF_8);
        byte[] stored = visitors.get(visitorId);
        if (stored == null) continue;
        Visitor visitor = read(stored, Visitor.class);
        Wait wait = visitor.waits.stream().filter(one -> one.at == began).findFirst().orElse(null);
        if (wait == null) continue;
        visitor.waits.remove(wait);
        boolean stopped = visitor.stops.stream().anyMatch(stop -> stop >= began && stop <= time);
        boolean again = visitor.waits.stream().anyMatch(one -> one.at > began && one.at <= time);
        visitors.put(visitorId, bytes(visitor));
        if (stopped || again) continue;
        Cart cart = new Cart();
        cart.visitorId = visitorId;
        cart.items = wait.items;
        cart.abandonedAt = time;
        carts.incrementAndGet();
        context.forward(record.withKey(visitorId.getBytes(StandardCharsets.UTF_8)).withValue(bytes(cart)), "carts");
      }
    }

    private Event eventOf(byte[] bytes) {
      try {
        Event event = json.readValue(bytes, Event.class);
        boolean whole = event.eventId != null && event.visitorId != null && event.itemId != null && event.page != null
            && event.type != null && TYPES.contains(event.type) && event.occurredAt > 0;
        return whole ? event : null;
      } catch (Exception error) {
        return null;
      }
    }

    private <T> T read(byte[] bytes, Class<T> type) {
      try {
        return json.readValue(bytes, type);
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
    }

    private byte[] bytes(Object value) {
      try {
        return json.writeValueAsBytes(value);
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
    }

    private static byte[] dueKey(long time, String visitorId) {
      byte[] name = visitorId.getBytes(StandardCharsets.UTF_8);
      return ByteBuffer.allocate(8 + name.length).putLong(time).put(name).array();
    }
  }
}
