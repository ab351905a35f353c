import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Utils;

/**
 * Writes a file of shop events into a topic, each padded to a size, keyed by its visitor:
 *
 * <pre>java -cp 'libs/*' ShopLoad.java BROKERS TOPIC PARTITIONS FILE BYTES [RATE SECONDS]</pre>
 *
 * Without a rate, all of it as fast as it goes, and then an event far in the future for each partition, so that every
 * wait in the topic ends. With one, events happen now, so that what came of them tells how long it took.
 */
public class ShopLoad {
  public static void main(String[] args) throws Exception {
    String topic = args[1];
    int partitions = Integer.parseInt(args[2]);
    int bytes = Integer.parseInt(args[4]);
    boolean live = args.length > 5;
    byte[][] lines = lines(Path.of(args[3]));

    Properties settings = new Properties();
    settings.put("bootstrap.servers", args[0]);
    settings.put("acks", "all");
    settings.put("linger.ms", live ? "1" : "20");
    settings.put("batch.size", "262144");
    settings.put("buffer.memory", "134217728");
    AtomicLong failed = new AtomicLong();
    try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
      long began = System.nanoTime();
      long sent = 0;
      long last = 0;
      double perNano = live ? Double.parseDouble(args[5]) / 1e9 : 0;
      long total = live ? (long) (Double.parseDouble(args[5]) * Double.parseDouble(args[6])) : lines.length;
      String run = Long.toString(System.currentTimeMillis(), 36);
      while (sent < total) {
        if (live) {
          while ((System.nanoTime() - began) * perNano < sent) Thread.sleep(1);
        }
        String line = new String(lines[(int) (sent % lines.length)], StandardCharsets.ISO_8859_1);
        String visitor = field(line, "visitorId");
        if (live) line = now(line, run + sent / lines.length);
        else last = Math.max(last, time(line));
        producer.send(
            new ProducerRecord<>(topic, visitor == null ? null : visitor.getBytes(StandardCharsets.UTF_8), padded(line, bytes)),
            (metadata, error) -> { if (error != null) failed.incrementAndGet(); });
        sent++;
      }
      if (!live) {
        for (int partition = 0; partition < partitions; partition++) {
          String visitor = visitorOf(partition, partitions);
          String end = "{\"eventId\":\"end" + partition + "\",\"visitorId\":\"" + visitor
              + "\",\"type\":\"view\",\"itemId\":\"i0\",\"transactionId\":null,\"occurredAt\":" + (last + 7_200_000) + "}";
          producer.send(new ProducerRecord<>(topic, visitor.getBytes(StandardCharsets.UTF_8), padded(end, bytes)));
          sent++;
        }
      }
      producer.flush();
      double seconds = (System.nanoTime() - began) / 1e9;
      System.out.printf("{\"sent\":%d,\"failed\":%d,\"seconds\":%.3f}%n", sent, failed.get(), seconds);
    }
  }

  private static byte[][] lines(Path file) throws Exception {
    try (var all = Files.lines(file, StandardCharsets.ISO_8859_1)) {
      return all.map(line -> line.getBytes(StandardCharsets.ISO_8859_1)).toArray(byte[][]::new);
    }
  }

  /** The event with a page's address that makes it so long; what is no object stays as it is. */
  private static byte[] padded(String line, int bytes) {
    int missing = bytes - line.length() - "\"page\":\"\",".length();
    String whole = line.startsWith("{") ? "{\"page\":\"" + "p".repeat(Math.max(1, missing)) + "\"," + line.substring(1) : line;
    return whole.getBytes(StandardCharsets.ISO_8859_1);
  }

  private static String field(String line, String name) {
    String start = "\"" + name + "\":\"";
    int at = line.indexOf(start);
    if (at < 0) return null;
    int end = line.indexOf('"', at + start.length());
    return end < 0 ? null : line.substring(at + start.length(), end);
  }

  private static final String TIME = "\"occurredAt\":";

  private static long time(String line) {
    int at = line.indexOf(TIME);
    if (at < 0 || !line.endsWith("}") || !Character.isDigit(line.charAt(at + TIME.length()))) return 0;
    return Long.parseLong(line.substring(at + TIME.length(), line.length() - 1));
  }

  /** The same event as one of this run, and of now; a repeat stays a repeat. */
  private static String now(String line, String run) {
    if (time(line) == 0) return line;
    return line.substring(0, line.indexOf(TIME)).replace("\"eventId\":\"", "\"eventId\":\"" + run)
        + TIME + System.currentTimeMillis() + "}";
  }

  /** A visitor whose events are in that partition. */
  private static String visitorOf(int partition, int partitions) {
    for (int i = 0; ; i++) {
      String visitor = "end" + i;
      if (Utils.toPositive(Utils.murmur2(visitor.getBytes(StandardCharsets.UTF_8))) % partitions == partition) return visitor;
    }
  }
}
